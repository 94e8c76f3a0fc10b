"""Cancel, reschedule, re-run, and waiting for the end."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from deferlite.model.clock import SECOND
from deferlite.model.errors import AbortInProgress, Conflict, NotFound, UnknownFunction
from deferlite.model.events import AbortRequested, ExecutionChanged, ExecutionsEnqueued
from deferlite.model.execution import Ending, State
from deferlite.sdk.retry import RetryPolicy

pytestmark = pytest.mark.anyio


async def test_what_has_not_started_is_cancelled(world: Any) -> None:
    function = await world.live()
    execution = await world.enqueue()
    cancelled = await world.store.executions.cancel("shop", execution.id, False)
    assert cancelled.state is State.CANCELLED
    assert await world.claim(function) == []
    assert world.events[-1] == ExecutionChanged(
        environment="shop",
        execution_id=execution.id,
        function_name="import_contacts",
        state=State.CANCELLED,
    )


async def test_what_waits_for_a_retry_is_cancelled(world: Any) -> None:
    function = await world.live(retry=RetryPolicy())
    execution = await world.end(await world.start(function), Ending.RAISED, "{}")
    assert (await world.store.executions.cancel(None, execution.id, False)).state is State.CANCELLED


async def test_what_runs_is_aborted_only_by_force(world: Any) -> None:
    claimed = await world.start(await world.live())
    with pytest.raises(Conflict, match='cannot cancel execution in "started" state'):
        await world.store.executions.cancel("shop", claimed.id, False)
    assert (await world.store.executions.cancel("shop", claimed.id, True)).state is State.ABORTING
    assert world.heard(AbortRequested) == [AbortRequested(environment="shop", execution_id=claimed.id)]
    with pytest.raises(AbortInProgress):
        await world.store.executions.cancel("shop", claimed.id, True)
    with pytest.raises(Conflict, match='cannot cancel execution in "aborting" state'):
        await world.store.executions.cancel("shop", claimed.id, False)


@pytest.mark.parametrize("force", [False, True])
async def test_what_has_ended_cannot_be_cancelled(world: Any, force: bool) -> None:
    execution = await world.end(await world.start(await world.live()))
    with pytest.raises(Conflict, match='cannot cancel execution in "succeed" state'):
        await world.store.executions.cancel("shop", execution.id, force)


async def test_nothing_of_another_environment_is_touched(world: Any) -> None:
    await world.live()
    execution = await world.enqueue()
    steer = world.store.executions
    for attempt in (
        steer.cancel("staging", execution.id, True),
        steer.reschedule("staging", execution.id, None),
        steer.rerun("staging", execution.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await steer.get("shop", execution.id) == execution


async def test_rescheduled_later_and_to_now(world: Any) -> None:
    function = await world.live()
    execution = await world.enqueue()
    later = world.clock.now() + 60 * SECOND
    world.events.clear()
    moved = await world.store.executions.reschedule("shop", execution.id, later)
    assert (moved.state, moved.scheduled_at) == (State.CREATED, later)
    assert world.heard(ExecutionsEnqueued)[0].due_at == later
    assert await world.claim(function) == []
    world.clock.advance(1)
    moved = await world.store.executions.reschedule("shop", execution.id, None)
    assert moved.scheduled_at == world.clock.now()
    assert len(await world.claim(function)) == 1
    with pytest.raises(Conflict, match='cannot reschedule execution in "started" state'):
        await world.store.executions.reschedule("shop", execution.id, None)


async def test_run_again_is_a_new_execution_of_the_same_call(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(
        function,
        arguments="[1]",
        keyword_arguments='{"a": 1}',
        metadata={"user": "7"},
        priority=3,
        concurrency_key="acme",
        idempotency_key="once",
    )
    first = await world.end(claimed)
    second = await world.store.executions.rerun("shop", first.id)
    assert (second.state, second.rerun_of, second.id != first.id) == (State.CREATED, first.id, True)
    assert (second.metadata, second.priority, second.concurrency_key) == ({"user": "7"}, 3, "acme")
    assert (second.idempotency_key, second.executed_by) == (None, "rerun")
    assert await world.store.executions.arguments(second.id) == ("[1]", '{"a": 1}')


async def test_a_removed_function_cannot_run_again(world: Any, make_spec: Any) -> None:
    execution = await world.end(await world.start(await world.live()))
    await world.publish(make_spec("other"))
    with pytest.raises(UnknownFunction):
        await world.store.executions.rerun("shop", execution.id)


async def test_what_is_over_the_limit_is_cancelled_and_the_delayed_kept(world: Any) -> None:
    function = await world.live()
    running = await world.start(function)
    due = [await world.enqueue() for _ in range(3)]
    delayed = await world.enqueue(scheduled_at=world.clock.now() + SECOND)
    assert await world.store.executions.cancel_excess(function.id) == 3
    states = [(await world.store.executions.get(None, row.id)).state for row in (running, *due, delayed)]
    assert states == [State.STARTED, *[State.CANCELLED] * 3, State.CREATED]


async def test_whoever_waits_is_woken_by_the_end(world: Any) -> None:
    claimed = await world.start(await world.live())
    seen: list[State] = []

    async def wait() -> None:
        seen.append((await world.store.executions.wait_ended(claimed.id, 30)).state)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            await world.end(claimed)
    assert seen == [State.SUCCEED] * 2


async def test_waiting_for_what_has_ended_or_does_not_end_in_time(world: Any) -> None:
    claimed = await world.start(await world.live())
    assert (await world.store.executions.wait_ended(claimed.id, 0.01)).state is State.STARTED
    await world.end(claimed)
    with anyio.fail_after(5):
        assert (await world.store.executions.wait_ended(claimed.id, 30)).state is State.SUCCEED
    with pytest.raises(NotFound):
        await world.store.executions.wait_ended("unknown", 1)
