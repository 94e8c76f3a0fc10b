"""A real store with a published build, and the application on top of it, without a scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import Clock, SystemClock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.execution import Claimed, Ending, Execution, Outcome, encode_json, error_result
from deferlite.model.function import FunctionSpec, Manifest
from deferlite.model.ids import ExecutionTokens
from deferlite.sandbox.levels import Level, SandboxStatus
from deferlite.settings import Settings
from deferlite.store import Store, Want
from deferlite.web.app import create_app
from deferlite.web.services import Services

ADMIN_KEY = "the-admin-key-of-the-tests"
FUNCTIONS = ("hello", "add", "sleepy")
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
