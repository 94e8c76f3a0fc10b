"""The dispatcher between the real store and an executor that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from deferlite.model.environment import EnvironmentConfig, RunSettings
from deferlite.model.events import Event, ParentParked, ParentReady, ParentResumed
from deferlite.model.execution import Ending, LogLine, State, error_result
from deferlite.model.function import FunctionOptions
from deferlite.sdk.retry import RetryPolicy
from tests.services.dispatcher_fixtures import PATIENCE, World, made_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with made_world(tmp_path) as made:
        yield made


async def test_an_execution_runs_on_the_live_build(world: World) -> None:
    build_id = await world.publish(greet=FunctionOptions())
    execution_id = await world.enqueue("greet", arguments='["you"]')
    await world.executor.until(lambda: execution_id in world.executor.orders)
    order = world.executor.orders[execution_id]
    assert (order.build_id, order.module, order.attribute, order.arguments) == (build_id, "jobs", "greet", '["you"]')
    assert order.env["DEFER_EXECUTION_ID"] == execution_id and order.env["DEFER_ATTEMPT"] == "1"
    assert build_id in world.executor.warmed
    world.executor.end(execution_id, result='"hello"')
    await world.until_state(execution_id, State.SUCCEED)
    assert await world.store.executions.result(execution_id) == '"hello"'


async def test_a_new_build_releases_the_old_one(world: World) -> None:
    first = await world.publish(greet=FunctionOptions())
    execution_id = await world.enqueue("greet")
    await world.executor.until(lambda: execution_id in world.executor.orders)
    second = await world.publish(greet=FunctionOptions())
    other = await world.enqueue("greet")
    await world.executor.until(lambda: other in world.executor.orders)
    assert world.executor.orders[execution_id].build_id == first
    assert world.executor.orders[other].build_id == second
    assert world.executor.released == [first]


async def test_never_more_than_the_function_may(world: World) -> None:
    await world.publish(one=FunctionOptions(concurrency=1), free=FunctionOptions())
    ids = [await world.enqueue("one") for _ in range(3)]
    free = await world.enqueue("free")
    await world.executor.until(lambda: len(world.executor.orders) == 2)
    assert set(world.executor.orders) == {ids[0], free}
    for execution_id, following in pairwise(ids):
        world.executor.end(execution_id)
        await world.executor.until(lambda following=following: following in world.executor.orders)  # type: ignore[misc]
        assert len([i for i in ids if i in world.executor.orders]) == 1


async def test_never_more_than_the_environment_or_the_server_may(tmp_path: Path) -> None:
    async with made_world(tmp_path, limit=3, concurrency=2) as world:
        await world.publish(f=FunctionOptions())
        config = EnvironmentConfig(repository="/srv/other", run=RunSettings(concurrency=2))
        await world.store.environments.apply("other", config, "other.toml")
        await world.publish("other", f=FunctionOptions())
        ids = {await world.enqueue("f", environment) for environment in ("shop", "other") for _ in range(4)}
        await world.executor.until(lambda: len(world.executor.orders) == 3)
        for _ in ids:
            await world.executor.until(lambda: bool(world.executor.orders))
            by_environment = [order.environment for order in world.executor.orders.values()]
            assert len(by_environment) <= 3
            assert by_environment.count("shop") <= 2 and by_environment.count("other") <= 2
            world.executor.end(next(iter(world.executor.orders)))


async def test_higher_priority_first(world: World) -> None:
    await world.publish(one=FunctionOptions(concurrency=1))
    first = await world.enqueue("one")
    await world.executor.until(lambda: first in world.executor.orders)
    low, high = await world.enqueue("one", priority=-5), await world.enqueue("one", priority=5)
    world.executor.end(first)
    await world.executor.until(lambda: bool(world.executor.orders))
    assert set(world.executor.orders) == {high}
    world.executor.end(high)
    await world.executor.until(lambda: low in world.executor.orders)


async def test_a_delay_is_kept(world: World) -> None:
    await world.publish(f=FunctionOptions())
    later = await world.enqueue("f", scheduled_at=world.clock.now() + 3_600_000_000)
    now = await world.enqueue("f")
    await world.executor.until(lambda: now in world.executor.orders)
    assert later not in world.executor.orders
    world.clock.advance(3600)
    await world.executor.until(lambda: later in world.executor.orders)


async def test_what_is_too_late_is_discarded(world: World) -> None:
    await world.publish(one=FunctionOptions(concurrency=1))
    running = await world.enqueue("one")
    await world.executor.until(lambda: running in world.executor.orders)
    late = await world.enqueue("one", discard_at=world.clock.now() + 1_000_000)
    world.clock.advance(2)
    await world.until_state(late, State.DISCARDED)
    assert running in world.executor.orders


async def test_a_retry_waits_its_interval(world: World) -> None:
    policy = RetryPolicy(max_attempts=1, initial_interval=30, randomization_factor=0)
    await world.publish(f=FunctionOptions(retry=policy))
    execution_id = await world.enqueue("f")
    await world.executor.until(lambda: execution_id in world.executor.orders)
    world.executor.end(execution_id, Ending.RAISED, error_result("ValueError", "no"))
    waiting = await world.until_state(execution_id, State.CREATED)
    assert waiting.scheduled_at == world.clock.now() + 30_000_000
    world.clock.advance(30)
    await world.executor.until(lambda: execution_id in world.executor.orders)
    assert world.executor.orders[execution_id].attempt == 2
    world.executor.end(execution_id, Ending.RAISED, error_result("ValueError", "no"))
    failed = await world.until_state(execution_id, State.FAILED)
    assert (failed.attempt, failed.retries, failed.error_code) == (2, 1, "ER0003")


async def test_at_its_limit_an_execution_that_comes_due_is_cancelled(world: World) -> None:
    await world.publish(one=FunctionOptions(concurrency=1, max_concurrency_action="cancel"))
    first = await world.enqueue("one")
    await world.executor.until(lambda: first in world.executor.orders)
    second = await world.enqueue("one")
    await world.until_state(second, State.CANCELLED)
    world.executor.end(first)
    await world.until_state(first, State.SUCCEED)


async def test_cancel_with_force_ends_the_process(world: World) -> None:
    await world.publish(f=FunctionOptions())
    execution_id = await world.enqueue("f")
    await world.executor.until(lambda: execution_id in world.executor.orders)
    assert (await world.store.executions.cancel("shop", execution_id, True)).state is State.ABORTING
    await world.until_state(execution_id, State.ABORTED)


async def test_a_waiting_parent_gives_its_slot_to_its_child(world: World) -> None:
    await world.publish(one=FunctionOptions(concurrency=1))
    parent = await world.enqueue("one")
    await world.executor.until(lambda: parent in world.executor.orders)
    child = await world.enqueue("one", parent_id=parent)
    world.bus.publish(ParentParked(environment="shop", execution_id=parent))
    await world.executor.until(lambda: child in world.executor.orders)
    with world.bus.subscribe(ParentResumed) as resumed:
        world.bus.publish(ParentReady(environment="shop", execution_id=parent))
        world.executor.end(child)
        with anyio.fail_after(PATIENCE):
            event: Event = await resumed.receive()
    assert isinstance(event, ParentResumed) and event.execution_id == parent
    other = await world.enqueue("one")
    await world.until_state(child, State.SUCCEED)
    assert other not in world.executor.orders
    world.executor.end(parent)
    await world.executor.until(lambda: other in world.executor.orders)


async def test_logs_are_stored_before_the_end(world: World) -> None:
    await world.publish(f=FunctionOptions())
    execution_id = await world.enqueue("f")
    await world.executor.until(lambda: execution_id in world.executor.orders)
    world.executor.dispatcher.logged(execution_id, 1, [LogLine(1, "stdout", "one"), LogLine(2, "stderr", "two")])
    world.executor.end(execution_id)
    await world.until_state(execution_id, State.SUCCEED)
    lines = await world.store.logs.read(execution_id)
    assert [(attempt, line.stream, line.text) for _, attempt, line in lines] == [
        (1, "stdout", "one"),
        (1, "stderr", "two"),
    ]


async def test_a_stop_puts_back_what_runs_and_counts_nothing(world: World) -> None:
    await world.publish(f=FunctionOptions())
    execution_id = await world.enqueue("f")
    await world.executor.until(lambda: execution_id in world.executor.orders)
    await world.executor.dispatcher.drain(world.executor, 0)
    back = await world.store.executions.get(None, execution_id)
    assert (back.state, back.retries, back.interruptions) == (State.CREATED, 0, 0)


async def test_a_missed_cron_tick_runs_once(world: World) -> None:
    await world.publish(hourly=FunctionOptions(cron="0 * * * *"))
    world.clock.advance(5 * 3600)
    await world.executor.until(lambda: len(world.executor.orders) == 1)
    (order,) = world.executor.orders.values()
    world.executor.end(order.id)
    await world.until_state(order.id, State.SUCCEED)
    assert not world.executor.orders


async def test_a_retired_environment_runs_nothing_and_comes_back(world: World) -> None:
    await world.publish(f=FunctionOptions())
    await world.store.environments.retire("shop")
    config = EnvironmentConfig(repository="/srv/shop")
    await world.store.environments.apply("shop", config, "shop.toml")
    execution_id = await world.enqueue("f")
    await world.executor.until(lambda: execution_id in world.executor.orders)


async def test_a_retired_environment_is_forgotten_once_its_last_execution_has_ended(world: World) -> None:
    await world.publish(f=FunctionOptions())
    execution_id = await world.enqueue("f")
    await world.executor.until(lambda: execution_id in world.executor.orders)
    lanes = world.executor.dispatcher._slots.lanes
    await world.store.environments.retire("shop")
    await anyio.wait_all_tasks_blocked()
    assert "shop" in lanes
    world.executor.end(execution_id)
    await world.until_state(execution_id, State.SUCCEED)
    with anyio.fail_after(PATIENCE):
        while "shop" in lanes:
            await anyio.lowlevel.checkpoint()
