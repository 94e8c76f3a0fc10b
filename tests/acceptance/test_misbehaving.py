"""examples/misbehaving through the whole server: each ends as its README says, and nothing else is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Repository, Server, processes_of, read_tree, until_none

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "misbehaving"
GOOD = 'from deferlite import defer\n\n@defer\ndef good(number):\n    print("fine", number)\n    return number\n'
FAILURES = {
    "raises": ("ER0003", "OrderLost: no order 17"),
    "exits": ("ER0003", "exited with status 3"),
    "exits_at_once": ("ER0003", "exited with status 7 before the function returned"),
    "segfaults": ("ER0003", "killed by SIGSEGV"),
    "kills_itself": ("ER0003", "killed by SIGKILL"),
    "hangs": ("ER0001", "1 s"),
    "spins": ("ER0001", "1 s"),
    "ignores_sigterm": ("ER0001", "1 s"),
    "stops_itself": ("ER0001", "1 s"),
    "eats_memory": ("ER0002", "512 MiB"),
    "shares_memory_hunger": ("ER0002", "512 MiB"),
    "returns_not_json": ("ER0003", "TypeError"),
    "returns_nan": ("ER0003", "TypeError"),
    "returns_number_keys": ("ER0003", "TypeError"),
    "too_big_result": ("ER0003", "ValueError"),
    "scribbles_on_descriptors": ("ER0003", ""),
}
SUCCESSES = ("exits_happily", "forks", "leaves_children", "floods", "prints_rubbish", "outlasts_its_function")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("misbehaving")
    bad = Repository(folder / "bad", read_tree(EXAMPLE))
    good = Repository(folder / "good", {"jobs.py": GOOD})
    with Server(folder / "home") as running:
        running.add("bad", f'repository = "{bad.path}"\n[run]\nconcurrency = 6\n')
        running.add("good", f'repository = "{good.path}"\n')
        for name in ("bad", "good"):
            build = running.until_built(name)
            assert build["state"] == "succeed", build
        yield running


@pytest.fixture(scope="module")
def ends(server: Server) -> dict[str, dict[str, Any]]:
    """Everything at once, with well-behaved executions of another environment in between."""
    client, other = server.client("bad"), server.client("good")
    ids = {name: client.enqueue(name, *(["17"] if name == "raises" else [])) for name in (*FAILURES, *SUCCESSES)}
    for number in range(50):
        assert other.call("good", number) == ("succeed", number)
    records = {}
    for name, execution_id in ids.items():
        state, result = client.wait(execution_id)
        with server.admin() as admin:
            record = admin.get(f"/executions/{execution_id}").json()["data"]
            logs = admin.get(f"/executions/{execution_id}/logs").text
        records[name] = {"state": state, "result": result, "code": record["error_code"], "logs": logs}
    return records


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_has_its_code_and_says_why(ends: dict[str, dict[str, Any]], name: str) -> None:
    code, words = FAILURES[name]
    record = ends[name]
    assert (record["state"], record["code"]) == ("failed", code), record
    assert set(record["result"]) == {"name", "message", "stack"}
    assert words in f"{record['result']['name']}: {record['result']['message']}"


@pytest.mark.parametrize("name", SUCCESSES)
def test_a_success_is_one(ends: dict[str, dict[str, Any]], name: str) -> None:
    assert (ends[name]["state"], ends[name]["code"]) == ("succeed", None), ends[name]


def test_the_stack_is_the_users(ends: dict[str, dict[str, Any]]) -> None:
    stack = ends["raises"]["result"]["stack"]
    assert "KeyError" in stack and "misbehaving" in stack
    assert "deferlite/runner" not in stack


def test_a_flood_is_cut_and_says_so(ends: dict[str, dict[str, Any]]) -> None:
    logs = ends["floods"]["logs"]
    assert len(logs) < 4 * 1024 * 1024
    assert re.search(r'"stream":"system".*cut', logs), logs[-500:]


def test_every_case_of_the_readme_is_tried() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", (EXAMPLE / "README.md").read_text(), re.MULTILINE))
    assert named == {*FAILURES, *SUCCESSES}


def test_no_process_is_left(server: Server, ends: dict[str, dict[str, Any]]) -> None:
    assert ends
    until_none(lambda: _surplus(server))
    (daemon,) = [record["result"] for name, record in ends.items() if name == "forks"]
    assert isinstance(daemon, int)
    with server.admin() as admin:
        assert admin.get("/executions", params={"state": "started"}).json()["data"] == []
    # The folders of executions are used again, empty.
    until_none(lambda: list((server.home / "scratch").glob("*/*/*")))


def _surplus(server: Server) -> list[str]:
    """All, if there are more than the server and, of each of the two builds, its box, its runner and a spare one."""
    left = list(processes_of(str(server.home)).values())
    return left if len(left) > 1 + 2 * 3 else []
