"""A real store with a published build, and the application on top of it, without a scheduler."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import Clock, SystemClock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.events import AbortRequested, Event, ExecutionsEnqueued
from deferlite.model.execution import Claimed, Ending, Execution, Outcome, encode_json, error_result
from deferlite.model.function import FunctionSpec, Manifest
from deferlite.model.ids import ExecutionTokens
from deferlite.sandbox.levels import Level, SandboxStatus
from deferlite.settings import Settings
from deferlite.store import Store, Want
from deferlite.web.app import create_app
from deferlite.web.listen import bind_tcp, serve_app
from deferlite.web.services import Services

ADMIN_KEY = "the-admin-key-of-the-tests"
FUNCTIONS = ("hello", "add", "sleepy")
SERVED_FUNCTIONS = ("hello", "broken", "sleepy", "stubborn")
"""What ``Scheduler`` knows to answer."""
BOOT = "boot-of-the-tests"


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock, bus: Bus) -> AsyncIterator[Store]:
    """With the environments ``production`` (live build with FUNCTIONS) and ``staging`` (the same)."""
    opened = await Store.open(tmp_path / "deferlite.db", clock, bus)
    try:
        for name in ("production", "staging"):
            await opened.environments.apply(name, EnvironmentConfig(repository="/srv/shop"), f"{name}.toml")
            await publish(opened, name)
        yield opened
    finally:
        await opened.close()


async def publish(store: Store, environment: str, functions: tuple[str, ...] = FUNCTIONS) -> str:
    """Make a build of ``functions`` the live one of the environment; its id."""
    build = await store.builds.request(
        environment, commit="c" * 40, branch="main", message="a commit", trigger=Trigger.NEW
    )
    steps = ("started", "cloning", "installing", "compiling", "publishing")
    for state in steps:
        await store.builds.advance(build.id, BuildState(state))
    specs = tuple(FunctionSpec(name=name, module="shop.jobs", attribute=name, is_async=False) for name in functions)
    manifest = Manifest(runtime="python", interpreter="CPython 3.11.7", modules=("shop.jobs",), functions=specs)
    return (await store.builds.publish(build.id, manifest)).id


@pytest.fixture
def services(store: Store, bus: Bus, clock: Clock, tmp_path: Path) -> Services:
    settings = Settings.load({"home": str(tmp_path), "hosts": ("jobs.example.org",)}, {})
    return Services(
        store=store,
        bus=bus,
        clock=clock,
        settings=settings,
        execution_tokens=ExecutionTokens(),
        admin_key=ADMIN_KEY,
        sandbox=SandboxStatus(level=Level.PROCESS, detail="none in these tests"),
        home=tmp_path,
        endpoint="http://127.0.0.1:3337",
        version="0.0.0",
        started_at=clock.now(),
    )


@pytest.fixture
def app(services: Services) -> Starlette:
    return create_app(services)


@pytest.fixture
async def token(store: Store) -> str:
    """Of ``production``."""
    return (await store.tokens.create("production", "tests"))[1]


@asynccontextmanager
async def client_of(app: Starlette, **options: object) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3337", **options) as made:  # type: ignore[arg-type]
        yield made


@pytest.fixture
async def api(app: Starlette, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """With the token of ``production``."""
    async with client_of(app, auth=("", token)) as made:
        yield made


@pytest.fixture
async def anonymous(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as made:
        yield made


class StandIn:
    """Moves executions as the scheduler would, on a test's word."""

    def __init__(self, store: Store, environment: str = "production") -> None:
        self.store = store
        self.environment = environment

    async def start(self, function: str, slots: int = 1) -> list[Claimed]:
        """Claim up to ``slots`` due executions of the function."""
        found = await self.store.functions.get(self.environment, function)
        want = Want(environment=self.environment, function_id=found.id, slots=slots)
        return await self.store.executions.claim([want], BOOT, "process")

    async def end(self, claimed: Claimed, outcome: Outcome) -> Execution:
        return (await self.store.executions.finish([(claimed.id, claimed.attempt, outcome)]))[0]

    async def succeed(self, function: str, value: object) -> Execution:
        """Run the next due execution of the function to this value."""
        (claimed,) = await self.start(function)
        return await self.end(claimed, returned(value))

    async def end_aborted(self, claimed: Claimed) -> Execution:
        return await self.end(claimed, Outcome(ending=Ending.ABORTED, result="null"))

    async def fail(self, function: str, message: str) -> Execution:
        (claimed,) = await self.start(function)
        result = error_result("ValueError", message, "Traceback …")
        return await self.end(claimed, Outcome(ending=Ending.RAISED, result=result))


def returned(value: object) -> Outcome:
    return Outcome(ending=Ending.RETURNED, result=encode_json(value))


@pytest.fixture
def stand_in(store: Store) -> StandIn:
    return StandIn(store)


class Scheduler:
    """As much of a scheduler as the drives need: it claims what is due, and answers by the function's name."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._running: dict[str, Claimed] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with self._bus.subscribe(ExecutionsEnqueued, AbortRequested) as events:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow, events)
                yield
                tasks.cancel_scope.cancel()

    async def _follow(self, events: Any) -> None:
        async for event in events:
            await self._handle(event)

    async def _handle(self, event: Event) -> None:
        if isinstance(event, AbortRequested):
            claimed = self._running[event.execution_id]
            if claimed.function_name != "stubborn":
                await self._end(claimed, Outcome(ending=Ending.ABORTED, result="null"))
        if isinstance(event, ExecutionsEnqueued):
            wants = [Want(environment="production", function_id=id, slots=100) for id in event.function_ids]
            for claimed in await self._store.executions.claim(wants, BOOT, "process"):
                await self._run(claimed)

    async def _run(self, claimed: Claimed) -> None:
        self._running[claimed.id] = claimed
        if claimed.function_name == "hello":
            await self._end(claimed, Outcome(ending=Ending.RETURNED, result=claimed.arguments))
        if claimed.function_name == "broken":
            message = (json.loads(claimed.arguments) or ["broken"])[0]
            result = error_result("ValueError", message, "ValueError: …\n    at broken")
            await self._end(claimed, Outcome(ending=Ending.RAISED, result=result))

    async def _end(self, claimed: Claimed, outcome: Outcome) -> None:
        await self._store.executions.finish([(claimed.id, claimed.attempt, outcome)])


@pytest.fixture
async def endpoint(app: Starlette, store: Store, bus: Bus) -> AsyncIterator[str]:
    """The address of a real server whose executions run, as far as ``Scheduler`` knows their functions."""
    await publish(store, "production", SERVED_FUNCTIONS)
    sock = bind_tcp("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks, Scheduler(store, bus).running():
        await tasks.start(lambda task_status: serve_app(app, sock, task_status=task_status))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        tasks.cancel_scope.cancel()
