"""The dispatcher with the real store, and an executor that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from deferlite.bus import Bus
from deferlite.executors.base import Order
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentConfig, RunSettings
from deferlite.model.events import ExecutionChanged
from deferlite.model.execution import Ending, Execution, NewExecution, Outcome, State, error_result
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest
from deferlite.model.ids import ExecutionTokens
from deferlite.scheduler.dispatcher import Dispatcher
from deferlite.scheduler.orders import OrderBook
from deferlite.scheduler.timers import Timers
from deferlite.store import Store

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
