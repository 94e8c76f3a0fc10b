"""Previews of a whole server: made with their branch, gone with it, and nothing of them left behind."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import PATIENCE, Repository, Server, processes_of, until_none

JOBS = """
import os
import time

from deferlite import defer

@defer
def where():
    return os.environ["DEFER_ENVIRONMENT"], os.environ.get("STAGE")

@defer
def endless():
    while True:
        time.sleep(1)

@defer.cron("* * * * *")
def tick():
    pass
"""
ROUNDS = 10
BRANCHES = 5


def previews(admin: httpx.Client, retired: bool = False) -> dict[str, dict[str, Any]]:
    """The preview environments by their branch."""
    listed = admin.get("/environments", params={"retired": 1} if retired else {}).json()["data"]
    return {one["preview"]["branch"]: one for one in listed if one["preview"] and (retired or one["state"] == "active")}


def start(server: Server, repository: Repository) -> None:
    preview = '[preview]\nbranches = ["feature/*"]\nenv = { STAGE = "preview" }\n'
    server.add("shop", f'repository = "{repository.path}"\nbranch = "main"\n[env]\nSTAGE = "live"\n{preview}')
    assert server.until_built("shop")["state"] == "succeed"


def test_a_branch_gets_an_environment_and_loses_it(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "shop", {"jobs.py": JOBS})
    with Server(tmp_path / "home") as server:
        start(server, repository)
        before = time.monotonic()
        repository.git("branch", "feature/one")
        name = server.until(lambda admin: previews(admin).get("feature/one"))["name"]
        assert time.monotonic() - before < PATIENCE
        assert server.until_built(name)["state"] == "succeed"
        client = server.client(name)
        assert client.call("where") == ("succeed", [name, "preview"])
        assert server.client("shop").call("where") == ("succeed", ["shop", "live"])
        with server.admin() as admin:
            functions = {one["name"]: one for one in admin.get(f"/environments/{name}/functions").json()["data"]}
        assert functions["tick"]["next_cron_at"] is None
        assert name in server.cli("environments").stdout
        running = client.enqueue("endless")
        server.until(lambda admin: admin.get(f"/executions/{running}").json()["data"]["started_at"])
        waiting = client.enqueue("where", schedule_for="2100-01-01T00:00:00Z")
        repository.git("branch", "-D", "feature/one")
        ended = server.until(lambda admin: _ended(admin, running, waiting))
        assert ended == ["aborted", "cancelled"]
        assert client.http.get(f"/executions/{running}").status_code == 401
        _until_freed([server.home / "builds" / name])


def _ended(admin: httpx.Client, *ids: str) -> list[str] | None:
    found = [admin.get(f"/executions/{id}").json()["data"] for id in ids]
    return [one["state"] for one in found] if all(one["finished_at"] for one in found) else None


@pytest.mark.slow
def test_fifty_branches_come_and_go_while_executions_run(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    repository = Repository(tmp_path / "shop", {"jobs.py": JOBS})
    with Server(tmp_path / "home", "--builds", "2") as server:
        start(server, repository)
        assert server.client("shop").call("where") == ("succeed", ["shop", "live"])
        _round(server, repository, "warm-up")  # What is loaded once is loaded.
        before = Footprint.of(server)
        for number in range(ROUNDS):
            _round(server, repository, str(number))
        assert server.client("shop").call("where") == ("succeed", ["shop", "live"])
        with server.admin() as admin:
            history = previews(admin, retired=True)
        assert len(history) == (ROUNDS + 1) * BRANCHES
        assert {one["state"] for one in history.values()} == {"retired"}
        assert {what: count for what, count in _rows_left(server, history).items() if count} == {}
        assert _files_left(server, {one["name"] for one in history.values()}) == []
        until_none(lambda: list(processes_of(str(server.home)))[before.processes :])
        after = Footprint.of(server)
        record_property("figures", f"{ROUNDS * BRANCHES} previews came and went\n  before {before}\n  after  {after}")
        assert after.watches <= before.watches
        assert after.descriptors <= before.descriptors + 2
        # The pool of threads grows with what happens to be asked at once; one left by each round would be a leak.
        assert after.threads < before.threads + ROUNDS
        assert after.disk <= before.disk + 100_000
        assert after.memory <= before.memory * 1.15


def _round(server: Server, repository: Repository, label: str) -> None:
    """Some branches with an execution each that would never end; then without them."""
    branches = [f"feature/{label}-{number}" for number in range(BRANCHES)]
    for branch in branches:
        repository.git("branch", branch)
    server.until(lambda admin: True if previews(admin).keys() >= set(branches) else None)
    with server.admin() as admin:
        names = [previews(admin)[branch]["name"] for branch in branches]
    running = []
    for name in names:
        assert server.until_built(name)["state"] == "succeed"
        client = server.client(name)
        running.append(client.enqueue("endless"))
        client.http.close()
    server.until(lambda admin: _all_started(admin, running))
    repository.git("branch", "-D", *branches)
    server.until(lambda admin: _ended(admin, *running))
    _until_freed([server.home / "builds" / name for name in names])


def _until_freed(folders: list[Path]) -> None:
    until_none(lambda: [path for folder in folders if folder.exists() for path in folder.iterdir()])


def _all_started(admin: httpx.Client, ids: list[str]) -> bool | None:
    found = [admin.get(f"/executions/{id}").json()["data"]["started_at"] for id in ids]
    return True if all(found) else None


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What the server takes of the machine; in bytes where it has a size."""

    memory: int
    disk: int
    """Of builds and caches; the queue itself keeps the history."""
    processes: int
    descriptors: int
    watches: int
    threads: int

    @classmethod
    def of(cls, server: Server) -> Footprint:
        assert server.process is not None
        proc = Path(f"/proc/{server.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        opened = [path.read_text() for path in (proc / "fdinfo").iterdir() if path.exists()]
        files = (path for name in ("builds", "cache", "scratch") for path in (server.home / name).rglob("*"))
        return cls(
            memory=int(status["VmRSS"].split()[0]) * 1024,
            disk=sum(path.lstat().st_blocks * 512 for path in files if not path.is_symlink()),
            processes=len(processes_of(str(server.home))),
            descriptors=len(opened),
            watches=sum(text.count("inotify wd:") for text in opened),
            threads=int(status["Threads"]),
        )


GONE = {
    "executions": "finished_at IS NULL",
    "builds": "finished_at IS NULL",
    "functions": "next_cron_at IS NOT NULL",
    "tokens": "from_file AND revoked_at IS NULL",
}
"""What a retired environment has no rows of."""


def _rows_left(server: Server, branches: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    names = [one["name"] for one in branches.values()]
    which = f"environment IN ({', '.join('?' * len(names))})"
    with closing(sqlite3.connect(f"file:{server.home / 'deferlite.db'}?mode=ro", uri=True)) as database:
        counts = {
            table: database.execute(f"SELECT count(*) FROM {table} WHERE {which} AND {rest}", names).fetchone()[0]
            for table, rest in GONE.items()
        }
        return counts | {"outbox": database.execute("SELECT count(*) FROM outbox").fetchone()[0]}


def _files_left(server: Server, names: Set[str]) -> list[Path]:
    return [path for path in server.home.rglob("*") if names & set(path.name.split("."))]
