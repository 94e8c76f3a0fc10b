"""Without DEFER_TOKEN: executions in threads of this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from deferlite import (
    Conflict,
    ExecutionAborted,
    ExecutionCancelled,
    ExecutionDiscarded,
    ExecutionFailed,
    NotFound,
    ResultNotReady,
    aget_execution,
    aget_execution_result,
    alist_executions,
    await_result,
    cancel_execution,
    current_execution,
    defer,
    get_execution,
    get_execution_result,
    list_execution_attempts,
    list_executions,
    rerun_execution,
    reschedule_execution,
)
from deferlite.sdk.backends import override
from deferlite.sdk.local import LocalBackend
from deferlite.sdk.retry import RetryPolicy

pytestmark = pytest.mark.anyio

SOON = RetryPolicy(max_attempts=2, initial_interval=0.01, randomization_factor=0)
PATIENCE = 10


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBackend]:
    for name in ("DEFER_TOKEN", "DEFER_EXECUTION_ID"):
        monkeypatch.delenv(name, raising=False)
    own = LocalBackend(slots=4)
    with override(own):
        yield own


class Gate:
    """Holds executions until the test opens it, and counts them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.arrivals = threading.Semaphore(0)
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def pass_through(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.arrivals.release()
        assert self.open.wait(PATIENCE)
        with self._lock:
            self.inside -= 1

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.arrivals.acquire(timeout=PATIENCE)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


@defer
def double(number: int) -> int:
    return 2 * number


@defer
async def adouble(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@defer
def raises(kind: str) -> None:
    raise {"value": ValueError, "os": OSError, "unicode": UnicodeError}.get(kind, LookupError)("no good")


def test_a_result_comes_back() -> None:
    execution = double(21)
    assert get_execution_result(execution.id, wait=PATIENCE) == 42
    done = get_execution(execution.id)
    assert (done.state, done.attempt, done.ended, done.error_code) == ("succeed", 1, True, None)
    assert done.started_at is not None and done.finished_at is not None and done.scheduled_at.tzinfo is not None


async def test_coroutines() -> None:
    assert await await_result(adouble)(21) == 42
    execution = await adouble(4)
    assert await aget_execution_result(execution.id, wait=PATIENCE) == 8
    assert (await aget_execution(execution.id)).state == "succeed"
    assert len(await alist_executions()) == 2


def test_a_coroutine_function_runs_without_a_loop_around_it(backend: LocalBackend) -> None:
    execution = asyncio.run(adouble(3))  # the loop that enqueued it is gone by the time it is asked for
    assert get_execution_result(execution.id, wait=PATIENCE) == 6


def test_arguments_and_results_are_copies() -> None:
    given = [1]

    @defer
    def change(items: list[int]) -> dict[str, Any]:
        items.append(2)
        return {"items": (1, 2)}

    assert await_result(change)(given) == {"items": [1, 2]}
    assert given == [1]


def test_a_result_that_is_not_json_fails() -> None:
    @defer
    def returns_a_set() -> set[int]:
        return {1}

    with pytest.raises(ExecutionFailed, match=r"the result of returns_a_set\(\) is of type set") as failed:
        await_result(returns_a_set)()
    assert failed.value.name == "TypeError"


@pytest.mark.parametrize(
    ("kind", "builtin"), [("value", ValueError), ("os", OSError), ("unicode", UnicodeError), ("", LookupError)]
)
def test_a_child_s_error_is_raised_as_what_it_was(kind: str, builtin: type[Exception]) -> None:
    with pytest.raises(builtin) as caught:
        await_result(raises)(kind)
    error = caught.value
    assert isinstance(error, ExecutionFailed)
    assert (error.name, error.message, error.error_code) == (builtin.__name__, "no good", "ER0003")
    assert str(error) == f"raises failed with {builtin.__name__}: no good"
    assert "in raises" in error.stack and "local_record" not in error.stack
    assert error.execution.state == "failed"


def test_an_error_that_passes_through_keeps_its_name() -> None:
    class CardDeclined(Exception): ...

    @defer
    def child() -> None:
        raise CardDeclined("no money")

    @defer
    def parent() -> None:
        await_result(child)()

    with pytest.raises(ExecutionFailed) as caught:
        await_result(parent)()
    assert caught.value.name == "CardDeclined"


@pytest.mark.parametrize("ending", [SystemExit(3), asyncio.CancelledError()])
def test_what_is_no_exception_fails_it_as_well(ending: BaseException) -> None:
    @defer
    def leaves() -> None:
        raise ending

    with pytest.raises(ExecutionFailed, match=type(ending).__name__):
        await_result(leaves)()


def test_retries_follow_the_policy(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    @defer(retry=SOON)
    def third_time_lucky() -> int:
        current = current_execution()
        assert current is not None and current.function_name == "third_time_lucky"
        seen.append(current.attempt)
        if len(seen) < 3:
            raise RuntimeError("not yet")
        return len(seen)

    execution = third_time_lucky()
    assert get_execution_result(execution.id, wait=PATIENCE) == 3
    assert seen == [1, 2, 3]
    attempts = list_execution_attempts(execution.id)
    assert [(attempt.attempt, attempt.state) for attempt in attempts] == [(3, "succeed"), (2, "failed"), (1, "failed")]
    assert list_execution_attempts(execution.id, first=1, after="3").items == attempts.items[1:2]
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]


def test_retries_run_out(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError):
        await_result(defer(raises.__fn__, name="again", retry=SOON))("value")
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING, logging.ERROR]
    [execution] = list_executions()
    assert (execution.state, execution.attempt) == ("failed", 3)


def test_delays() -> None:
    began = datetime.now(timezone.utc)
    execution = double.options(delay=0.05)(1)
    assert execution.state == "created"
    assert get_execution_result(execution.id, wait=PATIENCE) == 2
    started = get_execution(execution.id).started_at
    assert started is not None and started - began >= timedelta(seconds=0.05)


def test_a_result_that_is_not_there_yet() -> None:
    execution = double.options(delay="1h")(1)
    with pytest.raises(ResultNotReady):
        get_execution_result(execution.id)
    with pytest.raises(ResultNotReady):
        await_result(double.options(delay="1h"), timeout=0.01)(1)


def test_a_coroutine_that_stops_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def impatient() -> None:
        with pytest.raises(ResultNotReady):
            await await_result(adouble.options(delay=0.1), timeout=0.01)(3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(await_result(adouble.options(delay=0.1))(4), 0.01)

    asyncio.run(impatient())
    assert [get_execution_result(execution.id, wait=PATIENCE) for execution in list_executions()] == [8, 6]
    assert not caplog.records


def test_slots_are_filled_when_a_parent_has_come_back(gate: Gate) -> None:
    @defer
    def parent() -> None:
        await_result(double)(1)
        gate.pass_through()

    held = defer(gate.pass_through, name="held")
    parents, others = parent.enqueue_many([()] * 4), held.enqueue_many([()] * 4)
    gate.wait_for(4)
    gate.open.set()
    for execution in parents + others:
        get_execution_result(execution.id, wait=PATIENCE)
    assert gate.most == 4


def test_concurrency_of_a_function(gate: Gate) -> None:
    @defer(concurrency=2)
    def held() -> None:
        gate.pass_through()

    executions = held.enqueue_many([()] * 5)
    gate.wait_for(2)
    assert [get_execution(execution.id).state for execution in executions].count("started") == 2
    assert await_result(double)(1) == 2  # another function is not held up
    gate.open.set()
    for execution in executions:
        get_execution_result(execution.id, wait=PATIENCE)
    assert gate.most == 2


def test_slots_of_the_process(gate: Gate) -> None:
    held = defer(gate.pass_through, name="held")
    executions = held.enqueue_many([()] * 9)
    gate.wait_for(4)
    gate.open.set()
    for execution in executions:
        get_execution_result(execution.id, wait=PATIENCE)
    assert gate.most == 4


def test_one_of_a_concurrency_key_at_a_time(gate: Gate) -> None:
    held = defer(gate.pass_through, name="held")
    executions = held.options(concurrency_key="acme").enqueue_many([()] * 3)
    gate.wait_for(1)
    assert await_result(double.options(concurrency_key="umbrella"))(1) == 2
    gate.open.set()
    for execution in executions:
        get_execution_result(execution.id, wait=PATIENCE)
    assert gate.most == 1


def test_priority_goes_first(gate: Gate) -> None:
    order: list[str] = []

    @defer(concurrency=1)
    def step(name: str) -> None:
        order.append(name)
        gate.pass_through()

    step("first")
    gate.wait_for(1)
    last = step.options(priority=-1)("low")
    step("normal")
    step.options(priority=1)("high")
    gate.open.set()
    get_execution_result(last.id, wait=PATIENCE)
    assert order == ["first", "high", "normal", "low"]


def test_max_concurrency_action_cancel(gate: Gate) -> None:
    held = defer(gate.pass_through, name="held", concurrency=1, max_concurrency_action="cancel")
    held()
    gate.wait_for(1)
    with pytest.raises(ExecutionCancelled):
        get_execution_result(held().id, wait=PATIENCE)


def test_parents_that_wait_give_their_slot_back() -> None:
    @defer(concurrency=1)
    def descend(depth: int) -> int:
        return 0 if depth == 0 else 1 + await_result(descend)(depth - 1)

    assert await_result(descend, timeout=PATIENCE)(8) == 8


async def test_coroutines_that_wait_give_their_slot_back() -> None:
    @defer(concurrency=1)
    async def fan_out(width: int) -> int:
        results = await asyncio.gather(*(await_result(fan_out)(0) for _ in range(width)))
        return 1 + sum(results)

    assert await asyncio.gather(*(await_result(fan_out, timeout=PATIENCE)(6) for _ in range(3))) == [7, 7, 7]


def test_children_know_their_parent() -> None:
    @defer
    def parent() -> str:
        return double(1).id

    execution = parent()
    child = get_execution_result(execution.id, wait=PATIENCE)
    assert get_execution(child).parent_id == execution.id


def test_discard_after() -> None:
    execution = double.options(delay="1h", discard_after=0.01)(1)
    with pytest.raises(ExecutionDiscarded, match="discarded"):
        get_execution_result(execution.id, wait=PATIENCE)


def test_cancel_before_the_start() -> None:
    execution = double.options(delay="1h")(1)
    assert cancel_execution(execution.id).state == "cancelled"
    with pytest.raises(ExecutionCancelled):
        get_execution_result(execution.id)
    with pytest.raises(Conflict, match='cannot cancel execution in "cancelled" state'):
        cancel_execution(execution.id, force=True)
    with pytest.raises(Conflict, match="cannot reschedule"):
        reschedule_execution(execution.id)


def test_abort_while_it_runs(gate: Gate) -> None:
    execution = defer(gate.pass_through, name="held")()
    gate.wait_for(1)
    with pytest.raises(Conflict):
        cancel_execution(execution.id)
    assert cancel_execution(execution.id, force=True).state == "aborting"
    assert cancel_execution(execution.id, force=True).state == "aborting"
    gate.open.set()
    with pytest.raises(ExecutionAborted):
        get_execution_result(execution.id, wait=PATIENCE)


def test_reschedule_and_rerun() -> None:
    execution = double.options(delay="1h")(4)
    assert reschedule_execution(execution.id, "2h").scheduled_at > execution.scheduled_at
    reschedule_execution(execution.id)
    assert get_execution_result(execution.id, wait=PATIENCE) == 8
    again = rerun_execution(execution.id)
    assert get_execution_result(again.id, wait=PATIENCE) == 8
    assert (again.rerun_of, again.id != execution.id) == (execution.id, True)


def test_an_idempotency_key_names_one_execution() -> None:
    task = double.options(idempotency_key="once", delay="1h")
    assert task(1).id == task(2).id


def test_lists_and_their_pages() -> None:
    made = [double.options(delay="1h", metadata={"n": str(n)})(n).id for n in range(5)][::-1]
    first = list_executions(first=2)
    assert [execution.id for execution in first] == made[:2]
    assert (first.has_next_page, first.has_prev_page) == (True, False)
    second = list_executions(first=2, after=first.end_cursor)
    assert [execution.id for execution in second] == made[2:4]
    assert [execution.id for execution in list_executions(last=2, before=second.start_cursor)] == made[:2]
    assert [execution.id for execution in list_executions(metadata={"n": ["0", "4"]})] == [made[0], made[4]]
    assert len(list_executions(states=["started"])) == 0
    assert len(list_executions(scheduled_to=datetime.now(timezone.utc))) == 0
    with pytest.raises(TypeError, match=r"states is a list, such as states=\['created'\]"):
        list_executions(states="created")


def test_what_is_not_there() -> None:
    for call in (get_execution, cancel_execution, reschedule_execution, rerun_execution, get_execution_result):
        with pytest.raises(NotFound, match='cannot find execution "x"'):
            call("x")


def test_no_execution_here() -> None:
    assert current_execution() is None


def test_inside_an_execution_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EXECUTION_ID": "e1", "FUNCTION": "work", "ATTEMPT": "2", "COMMIT": "abc"}.items():
        monkeypatch.setenv(f"DEFER_{name}", value)
    found = current_execution()
    assert found is not None
    assert (found.id, found.function_name, found.attempt, found.commit) == ("e1", "work", 2, "abc")


def test_a_long_queue_is_drained() -> None:
    executions = double.enqueue_many([(n,) for n in range(2000)])
    assert get_execution_result(executions[-1].id, wait=PATIENCE) == 3998
