"""``kill -9`` of the server in the middle of its work: nothing is lost, what was cut off runs again and says so."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.support import Repository, Server, processes_of, until_none

JOBS = """
import pathlib
import time

from deferlite import defer

@defer
def long(number, folder):
    mark = pathlib.Path(folder) / f"{number}.{time.time_ns()}"
    mark.touch()
    while not (pathlib.Path(folder) / "go").exists():
        time.sleep(0.02)
    return number

@defer
def short(number, folder):
    return number
"""
QUEUED = 200
RUNNING = 4


def test_all_queued_and_running_executions_survive_a_kill(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "shop", {"jobs.py": JOBS})
    marks = tmp_path / "marks"
    marks.mkdir()
    server = Server(tmp_path / "home")
    server.add("shop", f'repository = "{repository.path}"\n[run]\nconcurrency = {RUNNING}\nmounts = ["{marks}:rw"]\n')
    with server:
        assert server.until_built("shop")["state"] == "succeed"
        client = server.client("shop")
        cut_off = [client.enqueue("long", number, str(marks)) for number in range(RUNNING)]
        _until_running(server, cut_off)
        queued = client.enqueue_many("short", [(number, str(marks)) for number in range(QUEUED)])
        server.kill()
        until_none(lambda: processes_of(str(server.home)))
        (marks / "go").touch()
        server.start()
        for number, execution_id in enumerate(cut_off):
            assert client.wait(execution_id) == ("succeed", number)
            attempts = client.http.post(f"/executions/{execution_id}/attempts", json={}).json()["data"]
            assert [attempt["state"] for attempt in attempts] == ["succeed", "failed"]
            with server.admin() as admin:
                record = admin.get(f"/executions/{execution_id}/attempts").json()["data"][1]
            assert record["interrupted"] and record["error_code"] == "ER0000"
        ends = Counter(client.wait(execution_id)[0] for execution_id in queued)
        assert ends == {"succeed": QUEUED}


def test_it_starts_whatever_executions_have_left(tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    folder = server.home / "scratch" / "1-1" / "1"
    folder.mkdir(parents=True)
    deep = "import os\nfor _ in range(1500):\n    os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", deep], cwd=folder, check=True)
    with server:
        assert list((server.home / "scratch").iterdir()) == []


def _until_running(server: Server, ids: list[str]) -> None:
    with server.admin() as admin, admin.stream("GET", "/events") as events:
        changes = events.iter_lines()
        while {admin.get(f"/executions/{i}").json()["data"]["state"] for i in ids} != {"started"}:
            next(line for line in changes if line.startswith("event: "))
