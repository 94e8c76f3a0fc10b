"""The main job as a user does it: a repository, an environment file, a call, a result, a commit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Repository, Server

JOBS = """
import logging
import os
import pathlib
import time

from deferlite import await_result, defer

ANSWER = "old"

@defer
def answer():
    return ANSWER

@defer
def gated(gate):
    print("waiting at", gate, flush=True)
    while not pathlib.Path(gate).exists():
        time.sleep(0.02)
    return ANSWER

@defer
async def inside():
    logging.getLogger("shop").warning("inside %s", os.environ["DEFER_ENVIRONMENT"])
    return {key: os.environ[key] for key in ("DEFER_FUNCTION", "DEFER_ATTEMPT", "DEFER_COMMIT", "TZ", "COLOUR")}

@defer
def variables():
    return sorted(os.environ)

@defer(concurrency=1)
def factorial(n):
    return n * await_result(factorial)(n - 1) if n > 1 else 1

@defer(retry={"max_attempts": 2, "initial_interval": 0.05, "randomization_factor": 0})
def flaky():
    attempt = int(os.environ["DEFER_ATTEMPT"])
    if attempt < 3:
        raise ConnectionError(f"attempt {attempt}")
    return attempt
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("work") / "shop", {"jobs.py": JOBS})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, repository: Repository) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("home"), environ={"SERVERS_SECRET": "hush"}) as running:
        gates = tmp_path_factory.mktemp("gates")
        running.add(
            "shop",
            f'repository = "{repository.path}"\n[run]\nmounts = ["{gates}"]\n[env]\nCOLOUR = "green"\n',
        )
        running.gates = gates  # type: ignore[attr-defined]
        build = running.until_built("shop")
        assert build["state"] == "succeed", build
        yield running


def test_a_result_comes_back(server: Server) -> None:
    assert server.client("shop").call("answer") == ("succeed", "old")


def test_what_an_execution_sees(server: Server, repository: Repository) -> None:
    client = server.client("shop")
    state, seen = client.call("inside")
    assert state == "succeed"
    assert seen == {
        "DEFER_FUNCTION": "inside",
        "DEFER_ATTEMPT": "1",
        "DEFER_COMMIT": repository.git("rev-parse", "HEAD"),
        "TZ": "UTC",
        "COLOUR": "green",
    }


def test_variables_are_the_contracts_and_none_of_the_servers(server: Server) -> None:
    names = server.client("shop").call("variables")[1]
    own = ("TOKEN", "ENDPOINT", "EXECUTION_ID", "ENVIRONMENT", "FUNCTION", "ATTEMPT", "BUILD_ID", "COMMIT")
    contract = {f"DEFER_{name}" for name in own}
    # LC_CTYPE is Python's own doing.
    assert set(names) - {"LC_CTYPE"} == contract | {"TZ", "HOME", "TMPDIR", "COLOUR", "PATH", "LANG", "VIRTUAL_ENV"}


def test_a_workflow_deeper_than_its_concurrency_ends(server: Server) -> None:
    assert server.client("shop").call("factorial", 6) == ("succeed", 720)


def test_a_failed_attempt_is_retried_by_the_policy(server: Server) -> None:
    client = server.client("shop")
    execution_id = client.enqueue("flaky")
    assert client.wait(execution_id) == ("succeed", 3)
    attempts = client.http.post(f"/executions/{execution_id}/attempts", json={}).json()["data"]
    assert [attempt["state"] for attempt in attempts] == ["succeed", "failed", "failed"]


def test_the_command_line_does_it_too(server: Server) -> None:
    done = server.cli("enqueue", "shop", "answer", "--wait")
    assert done.stdout.strip() == '"old"'
    assert server.cli("enqueue", "shop", "nonsense", check=False).returncode == 1


def test_a_commit_is_live_within_three_seconds_and_what_runs_ends_on_the_old_code(
    server: Server, repository: Repository
) -> None:
    client = server.client("shop")
    gate: Path = server.gates / "open"  # type: ignore[attr-defined]
    gated = client.enqueue("gated", str(gate))
    with server.admin() as admin, admin.stream("GET", f"/executions/{gated}/logs", params={"follow": 1}) as logs:
        assert "waiting at" in next(logs.iter_lines())
    commit = repository.commit("new answer", {"jobs.py": JOBS.replace('"old"', '"new"')})
    committed = time.monotonic()
    build = server.until_built("shop", commit)
    assert build["state"] == "succeed", build
    assert client.call("answer") == ("succeed", "new")
    assert time.monotonic() - committed < 3
    gate.touch()
    assert client.wait(gated) == ("succeed", "old")


def test_a_failed_build_leaves_the_live_one(server: Server, repository: Repository) -> None:
    client = server.client("shop")
    before = client.call("answer")
    commit = repository.commit("broken", {"jobs.py": JOBS + "\nimport nonsense\n"})
    build = server.until_built("shop", commit)
    assert build["state"] == "failed"
    assert "nonsense" in build["error"] and "jobs.py" in build["error"]
    assert client.call("answer") == before


def test_wrong_calls_are_told_what_is_wrong(server: Server) -> None:
    client = server.client("shop")
    answer = client.http.put("/executions", json={"function_name": "nonsense", "function_arguments": []})
    assert (answer.status_code, answer.json()["message"]) == (400, 'cannot find function "nonsense"')
    answer = client.http.put("/executions", json={"function_name": "answer"}, auth=("", "wrong"))
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
