"""Secrets of every kind, used and refused: nothing that people, other users or other programs can read tells them."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx

from tests.services.git_fixtures import smart_http
from tests.support import Repository, Server

MARK = "hunter2"
"""Part of every secret here."""

JOBS = {"jobs.py": "from deferlite import defer\n\n@defer\ndef job(): ...\n"}
PRE = "import os, urllib.request as r\nprint(os.environ['URL'])\n"
UV = '[project]\nname = "x"\nversion = "1"\ndependencies = ["six"]\n[[tool.uv.index]]\nurl = "{}/uv-project/simple"\n'


class Commands(threading.Thread):
    """What of every process's command line, as everybody on this machine can read it, holds a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.seen = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    command = path.read_bytes().decode(errors="replace")
                except OSError:
                    continue
                self.seen += "git" in command
                if MARK in command:
                    self.found.add(command.replace("\0", " "))


def stored(database: Path) -> Iterator[str]:
    """All that the database holds but for the settings, as text."""
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield from (
                    f"{table}.{name}: {value!r}" for name, value in zip(names, row, strict=True) if name != "config"
                )
    connection.close()


def files_with(text: str, folder: Path) -> set[str]:
    """Files below ``folder`` that hold ``text``, or are named so."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    holding = (path for path in files if text in path.name or text.encode() in path.read_bytes())
    return {path.relative_to(folder).as_posix() for path in holding}


def problem_of(name: str, admin: httpx.Client) -> str | None:
    answer = admin.get(f"/environments/{name}")
    return answer.json()["data"]["problem"] if answer.status_code == 200 else None


def near(text: str) -> list[str]:
    """Where a secret stands in a text."""
    return [found[0] for found in re.finditer(f".{{0,150}}{MARK}.{{0,20}}", text)]


def told(server: Server, names: list[str]) -> Iterator[str]:
    """Everything that a person can be shown."""
    with server.admin() as admin:
        listed = admin.get("/environments")
        paths = ["/status", *(f"/environments/{name}{more}" for name in names for more in ("", "/builds", "/tokens"))]
        yield listed.text
        for name in names:
            for build in admin.get(f"/environments/{name}/builds").json()["data"]:
                paths += [f"/environments/{name}/builds/{build['id']}", f"/builds/{build['id']}/logs"]
                yield server.cli("builds", "logs", build["id"], check=False).stdout
                yield server.cli("builds", "show", build["id"], check=False).stdout
        yield from (f"{path}: {admin.get(path).text}" for path in paths)
    page = server.cli("open", check=False).stdout.strip()
    with httpx.Client(follow_redirects=True) as browser:
        yield browser.get(page).text
        yield from (browser.get(f"{server.url}/environments/{name}").text for name in names)
        yield browser.get(f"{server.url}/metrics").text
    for arguments in (("environments",), ("environments", "--json"), ("doctor",), ("check",)):
        done = server.cli(*arguments, check=False)
        yield done.stdout + done.stderr


def test_no_secret_is_told(tmp_path: Path) -> None:
    """Repositories and indexes with passwords, right and wrong ones, and every way of naming them."""
    served, home = tmp_path / "served", tmp_path / "home"
    plain = Repository(served / "plain", JOBS)
    with (
        smart_http(served, user="me", password=f"git-{MARK}") as code,
        smart_http(served, status=401) as closed,
        smart_http(served, status=500) as broken,
    ):
        index, lost = (f"http://you:index-{MARK}@{one.url.partition('//')[2]}" for one in (closed, broken))
        Repository(served / "reqs", JOBS | {"requirements.txt": f"--index-url {index}/reqs/simple\nsix\n"})
        Repository(served / "direct", JOBS | {"requirements.txt": f"six @ {index}/six-1.0-py3-none-any.whl\n"})
        Repository(served / "lost", JOBS | {"requirements.txt": f"--index-url {lost}/simple\nsix\n"})
        Repository(served / "uv", JOBS | {"pyproject.toml": UV.format(index)})
        Repository(served / "six", JOBS | {"requirements.txt": "six\n"})
        address = code.url.replace("//", f"//me:git-{MARK}@")
        wrong = code.url.replace("//", f"//me:wrong-{MARK}@")
        token = tmp_path / "token"
        token.write_text(f"git-{MARK}\n")
        bad = f'[git]\nusername = "me"\ntoken = "bad-{MARK}"\n'
        files = {
            "good": f'repository = "{address}/plain"\n[hooks]\nsecret = "push-secret-{MARK}"\n'
            f'[env]\nA = "env-{MARK}"\n[preview]\nbranches = ["x/*"]\nenv = {{ B = "env-{MARK}" }}\n',
            "by-file": f'repository = "{code.url}/plain"\n[git]\nusername = "me"\ntoken = {{ file = "{token}" }}\n',
            "by-text": f'repository = "{code.url}/plain"\n[git]\nusername = "me"\ntoken = "git-{MARK}"\n',
            "reqs": f'repository = "{address}/reqs"\n',
            "direct": f'repository = "{address}/direct"\n',
            "lost": f'repository = "{address}/lost"\n',
            "uv": f'repository = "{address}/uv"\n',
            "by-env": f'repository = "{address}/six"\n[env]\nUV_INDEX_URL = "{index}/by-env/simple"\n',
            "extra": f'repository = "{address}/six"\n[env]\nUV_EXTRA_INDEX_URL = "{index}/extra/simple"\n',
            "said": f'repository = "{plain.path}"\n[build]\nprebuild = "echo {index}; exit 3"\n',
            "canary": f'repository = "{plain.path}"\n[build]\nbuilder = "99.0"\n',
        }
        refused = {
            "wrong": f'repository = "{wrong}/plain"\n',
            "bad": f'repository = "{code.url}/plain"\n{bad}',
            "nowhere": f'repository = "http://me:git-{MARK}@127.0.0.1:1/plain"\n',
            "slash": f'repository = "http://me:git/{MARK}@127.0.0.1:1/plain"\n',
            "override": f'repository = "{address}/six"\n[build]\noverrides = {{ six = "@ {index}/six-1.whl" }}\n',
        }
        in_vain = {"slash", "override"}  # Their files have faults.
        commands = Commands()
        commands.start()
        with Server(home, environ={"UV_INDEX_URL": f"{index}/server/simple"}) as server:
            for name, text in (files | refused).items():
                server.add(name, text)
            builds = {name: server.until_built(name) for name in files}
            problems = {name: server.until(partial(problem_of, name)) for name in refused if name not in in_vain}
            assert all(problems.values()), problems
            good = {name for name, build in builds.items() if build["state"] == "succeed"}
            assert good == {"good", "by-file", "by-text"}, {name: build["error"] for name, build in builds.items()}
            for secret in (f"push-secret-{MARK}", f"other-secret-{MARK}"):
                httpx.post(f"{server.url}/hooks/push/good", params={"token": secret})
            shown = list(told(server, [*files, *problems]))
        commands.stopped.set()
        commands.join()
        assert not [around for text in shown for around in near(text)]
        assert not [around for line in server.lines for around in near(line)]
        assert commands.seen and not {one for one in commands.found if "echo" not in one}
        assert not [text for text in stored(home / "deferlite.db") if MARK in text]
        kept = {name for name in files_with(MARK, home) if not name.startswith(("environments/", "deferlite.db"))}
        assert not kept, kept
