"""The dispatcher between the real store and an executor that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from deferlite.bus import Bus
from deferlite.executors.base import Order
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentConfig, RunSettings
from deferlite.model.events import Event, ExecutionChanged, ParentParked, ParentReady, ParentResumed
from deferlite.model.execution import Ending, Execution, LogLine, NewExecution, Outcome, State, error_result
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest
from deferlite.model.ids import ExecutionTokens
from deferlite.scheduler.dispatcher import Dispatcher
from deferlite.scheduler.orders import OrderBook
from deferlite.scheduler.timers import Timers
from deferlite.sdk.retry import RetryPolicy
from deferlite.store import Store

pytestmark = pytest.mark.anyio
PATIENCE = 10


class PlayedExecutor:
    """Runs nothing: the test sees the orders and says how each ends."""

    sandbox = "process"

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.warmed: list[str] = []
        self.released: list[str] = []
        self.dispatcher: Dispatcher
        self._changed = anyio.Event()

    async def warm(self, environment: str, build_id: str) -> None:
        self.warmed.append(build_id)

    def start(self, order: Order) -> None:
        self.orders[order.id] = order
        self._announce()

    def abort(self, execution_id: str, attempt: int) -> None:
        self.end(execution_id, Ending.ABORTED, error_result("Aborted", "aborted"))

    async def release(self, build_id: str) -> None:
        self.released.append(build_id)

    async def stop(self, drain: float) -> None:
        for execution_id in tuple(self.orders):
            self.end(execution_id, Ending.INTERRUPTED, error_result("Interrupted", "the server stops"))

    def end(self, execution_id: str, ending: Ending = Ending.RETURNED, result: str = "null") -> None:
        order = self.orders.pop(execution_id)
        self.dispatcher.ended(execution_id, order.attempt, Outcome(ending=ending, result=result))
        self._announce()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    def _announce(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class World:
    def __init__(self, store: Store, bus: Bus, clock: ManualClock, executor: PlayedExecutor) -> None:
        self.store, self.bus, self.clock, self.executor = store, bus, clock, executor

    async def publish(self, environment: str = "shop", **functions: FunctionOptions) -> str:
        build = await self.store.builds.request(
            environment, commit="c" * 40, branch="main", message="", trigger=Trigger.COMMIT
        )
        for state in ("started", "cloning", "installing", "compiling", "publishing"):
            await self.store.builds.advance(build.id, BuildState(state))
        specs = tuple(
            FunctionSpec(name=name, module="jobs", attribute=name, is_async=False, options=options)
            for name, options in functions.items()
        )
        manifest = Manifest(runtime="python", interpreter="CPython", modules=("jobs",), functions=specs)
        await self.store.builds.publish(build.id, manifest)
        return build.id

    async def enqueue(self, name: str, environment: str = "shop", **more: Any) -> str:
        (execution,) = await self.store.executions.enqueue(environment, [NewExecution(function_name=name, **more)])
        return execution.id

    async def until_state(self, execution_id: str, state: State) -> Execution:
        with anyio.fail_after(PATIENCE), self.bus.subscribe(ExecutionChanged) as changes:
            while (execution := await self.store.executions.get(None, execution_id)).state is not state:
                await changes.receive()
            return execution


@asynccontextmanager
async def made_world(tmp_path: Path, limit: int = 100, concurrency: int | None = 10) -> AsyncIterator[World]:
    bus, clock, executor = Bus(), ManualClock(), PlayedExecutor()
    store = await Store.open(tmp_path / "deferlite.db", clock, bus)
    orders = OrderBook(ExecutionTokens(), "http://127.0.0.1:1")
    executor.dispatcher = Dispatcher(store, bus, orders, limit=limit, boot_id="boot")
    world = World(store, bus, clock, executor)
    config = EnvironmentConfig(repository="/srv/shop", run=RunSettings(concurrency=concurrency))
    await store.environments.apply("shop", config, "shop.toml")
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(executor.dispatcher.run, executor)
            group.start_soon(Timers(store, bus, clock).run)
            yield world
            group.cancel_scope.cancel()
    finally:
        await store.close()


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
