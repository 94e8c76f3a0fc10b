"""A store on a real file with a clock that stands still, and the steps that most tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deferlite.bus import Bus
from deferlite.model.build import Build, BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.events import (
    AbortRequested,
    BuildCancelRequested,
    BuildChanged,
    BuildPublished,
    BuildRequested,
    EnvironmentChanged,
    Event,
    ExecutionChanged,
    ExecutionLogged,
    ExecutionsEnqueued,
)
from deferlite.model.execution import Claimed, Ending, Execution, NewExecution, Outcome
from deferlite.model.function import Function, FunctionOptions, FunctionSpec, Manifest, Parameter
from deferlite.store import Store, Want

EVENTS = (
    AbortRequested,
    BuildCancelRequested,
    BuildChanged,
    BuildPublished,
    BuildRequested,
    EnvironmentChanged,
    ExecutionChanged,
    ExecutionLogged,
    ExecutionsEnqueued,
)
STEPS = (
    BuildState.STARTED,
    BuildState.CLONING,
    BuildState.INSTALLING,
    BuildState.COMPILING,
    BuildState.PUBLISHING,
)


class World:
    """A store and the things that happen around it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.bus = Bus()
        self.events: list[Event] = []
        self.store: Store
        self.manifest = manifest

    async def open(self) -> World:
        self.store = await Store.open(self.path, self.clock, self.bus)
        return self

    async def reopen(self) -> None:
        await self.store.close()
        await self.open()

    async def request(self, environment: str = "shop", commit: str = "c" * 40) -> Build:
        return await self.store.builds.request(
            environment, commit=commit, branch="main", message="A change", trigger=Trigger.COMMIT
        )

    async def to_publishing(self, build: Build) -> None:
        for state in STEPS:
            await self.store.builds.advance(build.id, state)

    async def publish(self, *specs: FunctionSpec, environment: str = "shop", commit: str = "c" * 40) -> Build:
        build = await self.request(environment, commit)
        await self.to_publishing(build)
        return await self.store.builds.publish(build.id, manifest(*specs))

    async def live(self, *names: str, environment: str = "shop", **options: Any) -> Function:
        """An environment with one good build of functions ``names``; the first function."""
        await self.store.environments.apply(environment, EnvironmentConfig(repository="/r"), "shop.toml")
        names = names or ("import_contacts",)
        await self.publish(*(spec(name, **options) for name in names), environment=environment)
        return await self.store.functions.get(environment, names[0])

    async def enqueue(self, name: str = "import_contacts", environment: str = "shop", **fields: Any) -> Execution:
        item = NewExecution(function_name=name, **fields)
        return (await self.store.executions.enqueue(environment, [item]))[0]

    async def claim(self, function: Function, slots: int = 10, boot_id: str = "boot") -> list[Claimed]:
        want = Want(function.environment, function.id, slots)
        return await self.store.executions.claim([want], boot_id, "process")

    async def start(self, function: Function, **fields: Any) -> Claimed:
        """Enqueue one execution and claim it."""
        await self.enqueue(function.name, function.environment, **fields)
        (claimed,) = await self.claim(function, 1)
        return claimed

    async def end(self, claimed: Claimed, ending: Ending = Ending.RETURNED, result: str = "42") -> Execution:
        outcome = Outcome(ending=ending, result=result)
        (execution,) = await self.store.executions.finish([(claimed.id, claimed.attempt, outcome)])
        return execution

    async def check_counters(self) -> None:
        """The counters say what counting says, and no execution is called what its function is not while it waits."""
        rows = self.store.executions._database.rows
        counted = "SELECT function_id, state, count(*) FROM executions GROUP BY 1, 2 ORDER BY 1, 2"
        kept = "SELECT function_id, state, count FROM counters WHERE count > 0 ORDER BY 1, 2"
        assert await rows(kept) == await rows(counted)
        misnamed = (
            "SELECT 1 FROM executions JOIN functions ON functions.id = function_id "
            "WHERE state = 'created' AND function_name != functions.name"
        )
        assert await rows(misnamed) == []

    def heard(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if type(event) is kind]


def spec(
    name: str, *, takes: str = "", aliases: Sequence[str] = (), attribute: str | None = None, **options: Any
) -> FunctionSpec:
    """``takes``: names of parameters, each with ``=default`` where it has one, such as "to copy=None"."""
    return FunctionSpec(
        name=name,
        module="shop.jobs",
        attribute=attribute or name,
        is_async=False,
        parameters=tuple(
            Parameter(name=one.partition("=")[0], kind="positional_or_keyword", default=one.partition("=")[2] or None)
            for one in takes.split()
        ),
        options=FunctionOptions(**options),
        aliases=tuple(aliases),
    )


def manifest(*specs: FunctionSpec) -> Manifest:
    return Manifest(runtime="python", interpreter="CPython 3.11.7", modules=("shop.jobs",), functions=tuple(specs))


@pytest.fixture
def make_spec() -> Any:
    return spec


@pytest.fixture
def make_manifest() -> Any:
    return manifest


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str) -> AsyncIterator[World]:
    world = await World(tmp_path / "deferlite.db").open()
    kinds: Sequence[type[Event]] = EVENTS
    managers = [world.bus.listening(kind, world.events.append) for kind in kinds]
    for manager in managers:
        manager.__enter__()
    yield world
    for manager in managers:
        manager.__exit__(None, None, None)
    await world.store.close()
