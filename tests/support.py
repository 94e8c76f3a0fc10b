"""A real server in a process of its own, and real git repositories, for tests that act as a user does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anyio
import httpx
import pytest

from deferlite.builder.layout import Layout
from deferlite.builder.runtimes.interpreters import Interpreters

T = TypeVar("T")
BIN = Path(sys.executable).parent
DEFERLITE = BIN / "deferlite"
PATIENCE = 60.0
"""Seconds after which a wait for an event is called a failure."""


def is_there(part: str) -> bool:
    """Whether this machine has ``part``: a program, or a Python as in "Python 3.12"."""
    name, _, version = part.partition(" ")
    return version in interpreters() if name == "Python" else shutil.which(name) is not None


def missing(part: str) -> NoReturn:
    """Skip the test for want of ``part``, except in CI, where nothing is skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"{part} is missing, and in CI nothing is skipped")
    pytest.skip(f"needs {part}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def clean_environ(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DEFER", "VIRTUAL_ENV", "GIT_"))}
    return {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "PATH": f"{BIN}:{os.environ['PATH']}", **more}


@cache
def interpreters() -> dict[str, str]:
    """An executable of each Python of this machine that may use the SDK, by its version without the patch level."""
    known = anyio.run(Interpreters(Layout(Path("no-home"))).known)
    return {"{}.{}".format(*one.version): str(one.path) for one in known if (3, 10) <= one.version < (4,)}


class Repository:
    """A git repository with a work tree."""

    def __init__(self, path: Path, files: Mapping[str, str], branch: str = "main") -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", f"--initial-branch={branch}")
        self.git("config", "user.name", "A developer")
        self.git("config", "user.email", "developer@localhost")
        self.commit("first commit", files)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=clean_environ(), check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    def commit(self, message: str, files: Mapping[str, str]) -> str:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")


class Server:
    """``deferlite serve`` with a home of its own on a free port; ``with`` starts and stops it."""

    def __init__(self, home: Path, *options: str, environ: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.port = 0
        """Once it runs, and for its next runs."""
        self.options = options
        self.environ = clean_environ(**(environ or {}))
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.environments = home / "environments"
        self.environments.mkdir(parents=True, exist_ok=True)
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        assert self.port, "the server has not run yet"
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.http.close()
        self.stop()

    def start(self) -> None:
        ready = threading.Event()
        command = [str(DEFERLITE), "serve", "--home", str(self.home), "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(
            command, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self.process, ready), daemon=True)
        self._reader.start()
        assert ready.wait(PATIENCE), "\n".join(self.lines)
        assert self.process.poll() is None, "\n".join(self.lines)

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip())
            if page := re.search(r"http://127\.0\.0\.1:(\d+)/\?key=", line):
                self.port = int(page[1])
                ready.set()
        process.wait()
        ready.set()

    def kill(self) -> None:
        """As the kernel's out-of-memory killer would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None and self._reader is not None
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the server does not stop:\n" + "\n".join(self.lines)) from None
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def add(self, name: str, content: str) -> None:
        (self.environments / f"{name}.toml").write_text(content)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(DEFERLITE), *arguments, "--home", str(self.home)], env=self.environ, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def admin(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.home / "deferlite.sock"))
        return httpx.Client(transport=transport, base_url="http://localhost/admin/api", timeout=PATIENCE)

    def token(self, environment: str) -> str:
        with self.admin() as admin:
            return str(admin.post(f"/environments/{environment}/tokens", json={"name": "test"}).json()["token"])

    def client(self, environment: str) -> Client:
        client = Client(self.url, self.token(environment))
        self._clients.append(client)
        return client

    def until(self, look: Callable[[httpx.Client], T | None]) -> T:
        """What ``look`` finds with the admin API, asked again whenever something has changed until it is not None."""
        with self.admin() as admin, admin.stream("GET", "/events") as events:
            changes = events.iter_lines()
            while (found := look(admin)) is None:
                next(line for line in changes if line.startswith("event: "))
        return found

    def until_built(self, environment: str, commit: str | None = None) -> dict[str, Any]:
        """The newest build (of ``commit``) once it has ended."""

        def ended(admin: httpx.Client) -> dict[str, Any] | None:
            answer = admin.get(f"/environments/{environment}/builds")
            for build in answer.json()["data"][:1] if answer.status_code == 200 else []:
                right = commit is None or build["commit"] == commit
                if right and build["state"] in ("succeed", "failed"):
                    return dict(build)
            return None

        return self.until(ended)


class Client:
    """The public API with an environment's token."""

    def __init__(self, url: str, token: str) -> None:
        self.token = token
        self.http = httpx.Client(base_url=f"{url}/public/v2", auth=("", token), timeout=PATIENCE)

    def enqueue(self, function: str, *arguments: Any, **more: Any) -> str:
        body = {"function_name": function, "function_arguments": list(arguments), **more}
        answer = self.http.put("/executions", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    def enqueue_many(self, function: str, calls: Sequence[Sequence[Any]]) -> list[str]:
        bodies = [{"function_name": function, "function_arguments": list(call)} for call in calls]
        answer = self.http.put("/executions/batch", json={"executions": bodies})
        assert answer.status_code == 201, answer.text
        return [str(item["id"]) for item in answer.json()["data"]]

    def get(self, execution_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/executions/{execution_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])

    def wait(self, execution_id: str) -> tuple[str, Any]:
        """The state and the result once it has ended."""
        for _ in range(10):
            answer = self.http.get(f"/executions/{execution_id}/results", params={"wait": 10})
            if answer.status_code != 202:
                state = str(self.get(execution_id)["state"])
                return state, json.loads(answer.text) if answer.status_code == 200 else None
        raise AssertionError(f"{execution_id} does not end: {self.get(execution_id)}")

    def call(self, function: str, *arguments: Any, **more: Any) -> tuple[str, Any]:
        return self.wait(self.enqueue(function, *arguments, **more))


def read_tree(folder: Path) -> dict[str, str]:
    """The files of an example as text, by their relative names."""
    skipped = ("__pycache__", ".venv")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not set(skipped) & set(path.parts))
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def processes_of(text: str) -> dict[int, str]:
    """Command lines, parted by NUL, of the processes with ``text`` in it or in one of their variables, by their ids.

    Left out are this process and those it comes from, and what has ended and waits for its parent to notice.
    """
    ours, found = {os.getpid()}, {}
    parent = os.getppid()
    while parent > 0:
        ours.add(parent)
        parent = int((Path("/proc") / str(parent) / "stat").read_text().rpartition(")")[2].split()[1])
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) not in ours:
            with suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if text.encode() in command + (folder / "environ").read_bytes():
                    found[int(folder.name)] = command.decode(errors="replace")
    return found


def until_found(look: Callable[[], T]) -> T:
    """Look until something is found: for what comes and goes without a word of it, as processes and files do."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"{look} finds nothing"
        time.sleep(0.02)
    return found


def until_none(look: Callable[[], Collection[object]]) -> None:
    """Look until nothing is found any more."""
    until_found(lambda: not look())
