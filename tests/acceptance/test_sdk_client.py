"""deferlite's own SDK against a real server: both ends of the wire agree."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio import to_thread

import deferlite

pytestmark = pytest.mark.anyio

UNKNOWN = "0190a0c4-7d5e-7cc2-8c1f-3a5be1f0c9d4"


@deferlite.defer
def hello(*args: Any, **keywords: Any) -> list[Any]:
    raise AssertionError("runs on the server only")


@deferlite.defer
def broken(message: str) -> None:
    raise AssertionError("runs on the server only")


@deferlite.defer
def missing() -> None: ...


@pytest.fixture
def connected(endpoint: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFER_ENDPOINT", endpoint)
    monkeypatch.setenv("DEFER_TOKEN", token)


def talk() -> None:
    execution = hello("world", 2)
    assert deferlite.await_result(hello)("awaited") == ["awaited"]
    assert deferlite.get_execution(execution.id).state == "succeed"
    assert deferlite.get_execution_result(execution.id) == ["world", 2]
    with pytest.raises(deferlite.ExecutionFailed, match="no such company"):
        deferlite.await_result(broken)("no such company")
    with pytest.raises(deferlite.NotFound, match="cannot find execution"):
        deferlite.get_execution(UNKNOWN)
    with pytest.raises(deferlite.BadRequest, match='cannot find function "missing"'):
        missing()
    with pytest.raises(deferlite.PayloadTooLarge):
        hello("x" * 1024 * 1024)


def steer() -> None:
    later = hello.options(delay="1h", metadata={"user": "7"}, discard_after="2h")
    first, second = later("a"), later("b")
    assert (second.scheduled_at - second.created_at).total_seconds() == pytest.approx(3600, abs=60)
    assert [row.id for row in deferlite.list_executions(metadata={"user": ["7"]}, first=1)] == [second.id]
    assert deferlite.cancel_execution(first.id).state == "cancelled"
    with pytest.raises(deferlite.Conflict, match='in "cancelled" state'):
        deferlite.cancel_execution(first.id, force=True)
    moved = deferlite.reschedule_execution(second.id)
    assert moved.scheduled_at <= second.scheduled_at
    again = deferlite.rerun_execution(first.id)
    assert again.rerun_of == first.id
    many = hello.enqueue_many([("one",), ("two",)])
    assert [row.function_name for row in many] == ["hello", "hello"]
    failed = broken("no")
    with pytest.raises(deferlite.ExecutionFailed):
        deferlite.await_result(broken)("no")
    with pytest.raises(deferlite.ExecutionFailed):
        deferlite.get_execution_result(failed.id, wait=30)
    assert [row.error_code for row in deferlite.list_execution_attempts(failed.id)] == ["ER0003"]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("conversation", [talk, steer])
async def test_conversations(conversation: Any) -> None:
    with anyio.fail_after(60):
        await to_thread.run_sync(conversation)
