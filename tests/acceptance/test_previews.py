"""Previews of a whole server: made with their branch, gone with it, and nothing of them left behind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import PATIENCE, Repository, Server, processes_naming

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
def test_fifty_branches_come_and_go_while_executions_run(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "shop", {"jobs.py": JOBS})
    with Server(tmp_path / "home", "--builds", "2") as server:
        start(server, repository)
        _round(server, repository, "warm-up")  # What is loaded once is loaded.
        memory, disk = _memory(server), _disk(server.home)
        for number in range(ROUNDS):
            _round(server, repository, str(number))
        assert server.client("shop").call("where") == ("succeed", ["shop", "live"])
        left = [
            path for folder in (server.home / "builds").iterdir() if folder.name != "shop" for path in folder.iterdir()
        ]
        assert left == []
        assert _disk(server.home) <= disk * 1.2 + 1_000_000
        assert _memory(server) <= memory * 1.3
        assert not [line for line in processes_naming(str(server.home / "builds")) if "/builds/shop/" not in line]
        with server.admin() as admin:
            history = previews(admin, retired=True)
            assert len(history) == (ROUNDS + 1) * BRANCHES
            assert {one["state"] for one in history.values()} == {"retired"}


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
    """The disk is given back behind the event of the end: nobody tells of it, so it is looked at."""
    deadline = time.monotonic() + PATIENCE
    while left := [path for folder in folders if folder.exists() for path in folder.iterdir()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _all_started(admin: httpx.Client, ids: list[str]) -> bool | None:
    found = [admin.get(f"/executions/{id}").json()["data"]["started_at"] for id in ids]
    return True if all(found) else None


def _memory(server: Server) -> int:
    """Bytes of the server's own process."""
    assert server.process is not None
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS"))


def _disk(home: Path) -> int:
    """Bytes of builds and caches; the queue itself keeps the history."""
    files = (path for name in ("builds", "cache", "scratch") for path in (home / name).rglob("*"))
    return sum(path.lstat().st_blocks * 512 for path in files if not path.is_symlink())
