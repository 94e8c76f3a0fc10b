"""Parents and children where there is room for one execution, and a stop while one runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import Repository, Server

JOBS = """
import asyncio
import time
from deferlite import await_result, defer

@defer
def deep(levels):
    return 0 if levels == 0 else 1 + await_result(deep)(levels - 1)

@defer
async def wide(levels, width):
    if levels == 0:
        return 1
    return sum(await asyncio.gather(*(await_result(wide)(levels - 1, width) for _ in range(width))))

@defer
def sleep(seconds):
    time.sleep(seconds)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("workflows")
    repository = Repository(folder / "shop", {"jobs.py": JOBS})
    with Server(folder / "home", "--drain", "60s") as server:
        server.add("shop", f'repository = "{repository.path}"\n[run]\nconcurrency = 1\n')
        assert server.until_built("shop")["state"] == "succeed"
        yield server


def test_a_deep_and_a_wide_workflow_end_with_one_slot(server: Server) -> None:
    shop = server.client("shop")
    assert shop.call("deep", 12) == ("succeed", 12)
    assert shop.call("wide", 2, 4) == ("succeed", 16)


def test_a_stopping_server_is_not_ready_and_a_second_signal_hurries_it(server: Server) -> None:
    shop = server.client("shop")
    execution_id = shop.enqueue("sleep", 600)
    with server.admin() as admin, admin.stream("GET", "/events") as events:
        changes = events.iter_lines()
        while shop.get(execution_id)["state"] != "started":
            next(line for line in changes if line.startswith("event: "))
    assert server.process is not None
    server.process.terminate()
    while httpx.get(f"{server.url}/readyz").status_code != 503:
        pass
    assert server.stop() == 0
    server.start()
    with server.admin() as admin:
        row = admin.get(f"/executions/{execution_id}").json()["data"]
    assert (row["interruptions"], row["retries"]) == (0, 0)
    shop.http.post(f"/executions/{execution_id}/cancellation", json={"force": True})
