"""Servers of git repositories on loopback, as remote ones are reached: git://, http with a password, ssh."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deferlite.builder.layout import Layout
from deferlite.builder.sources import Sources
from deferlite.model.environment import EnvironmentConfig, GitSettings
from tests.support import clean_environ, free_port

GIT_CORE = Path(subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip())


class Fetched:
    """Fetches a commit as a build does; what it said is in ``log``."""

    def __init__(self, tmp_path: Path) -> None:
        self.layout = Layout(tmp_path / "home")
        self.sources = Sources(self.layout)
        self.folder = tmp_path / "builds"
        self.log: list[str] = []
        self._count = 0

    async def fetch(
        self, repository: str | Path, commit: str | None, branch: str | None = "main", **settings: Any
    ) -> Path:
        self._count += 1
        self.log = []
        destination = self.folder / str(self._count) / "source"
        worktree = settings.pop("worktree", False)
        config = EnvironmentConfig(repository=str(repository), git=GitSettings(**settings), worktree=worktree)
        await self.sources.fetch(config, commit, branch, destination, self.log.append)
        return destination

    @property
    def said(self) -> str:
        return "\n".join(self.log)


def files_of(tree: Path) -> dict[str, str]:
    return {path.relative_to(tree).as_posix(): path.read_text() for path in tree.rglob("*") if path.is_file()}


@contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """The address below which every repository in ``folder`` is, by git://."""
    port = free_port()
    options = ("--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}")
    with subprocess.Popen(
        [str(GIT_CORE / "git-daemon"), *options, "--verbose", str(folder)],
        env=clean_environ(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Ready to rumble" in line:
                break
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        try:
            yield f"git://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
            drain.join()


@dataclass
class SmartHttp:
    """What an http server of repositories was asked, and how it answers."""

    folder: Path
    user: str | None = None
    password: str = ""
    status: int | None = None
    """Answers everything so."""
    redirect: str | None = None
    silent: bool = False
    port: int = 0
    seen: list[Mapping[str, str]] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def encrypt(self, context: ssl.SSLContext) -> None:
        """From now on it speaks TLS."""
        assert self.server is not None
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def passwords(self) -> list[str]:
        """Of all requests that brought one."""
        given = (headers["authorization"] for headers in self.seen if "authorization" in headers)
        return [base64.b64decode(text.removeprefix("Basic ")).decode() for text in given]


@contextmanager
def smart_http(folder: Path, **options: Any) -> Iterator[SmartHttp]:
    about = SmartHttp(folder, **options)
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            about.seen.append({name.lower(): value for name, value in self.headers.items()})
            if about.silent:
                released.wait()
            elif about.redirect is not None:
                self._answer(302, {"Location": about.redirect + self.path})
            elif about.status is not None:
                self._answer(about.status)
            elif about.user is not None and not self._is_known():
                self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'})
            else:
                self._backend()

        do_POST = do_GET

        def _is_known(self) -> bool:
            return "authorization" in about.seen[-1] and about.passwords[-1] == f"{about.user}:{about.password}"

        def _answer(self, status: int, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def _backend(self) -> None:
            path, _, query = self.path.partition("?")
            variables = {
                "GIT_PROJECT_ROOT": str(about.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            }
            done = subprocess.run(
                [str(GIT_CORE / "git-http-backend")],
                input=self._body(),
                env=clean_environ(**variables),
                capture_output=True,
            )
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            return body

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    about.server = server
    about.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield about
    finally:
        released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


FAKE_SSH = """#!{python}
import json, os, shlex, sys
with open({record!r}, "a") as record:
    record.write(json.dumps(sys.argv[1:]) + "\\n")
if {failure!r}:
    sys.exit(sys.stderr.write({failure!r}) and 255)
command = shlex.split(sys.argv[-1])
os.execvp("git", ["git", command[0].removeprefix("git-"), *command[1:]])
"""


def fake_ssh(folder: Path, failure: str = "") -> Path:
    """A program ``ssh`` in ``folder`` that reaches this machine and writes its arguments down; the file it writes."""
    folder.mkdir(exist_ok=True)
    record = folder / "record"
    record.touch()
    program = folder / "ssh"
    program.write_text(FAKE_SSH.format(python=sys.executable, record=str(record), failure=failure))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return record


def with_path(folder: Path) -> str:
    return f"{folder}:{os.environ['PATH']}"
