"""A real server on a Unix socket for the tests of the command line: real application, real store, no scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from click.testing import CliRunner, Result

from deferlite.bus import Bus
from deferlite.cli.app import cli
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import SystemClock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.execution import Ending, NewExecution, Outcome
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest
from deferlite.model.ids import ExecutionTokens
from deferlite.sandbox.levels import Level, SandboxStatus
from deferlite.settings import Settings
from deferlite.store import Store, Want
from deferlite.web.app import create_app
from deferlite.web.listen import bind_unix, serve_app
from deferlite.web.services import Services
from deferlite.web.session import trusted

Run = Callable[..., Awaitable[Result]]
STEPS = ("started", "cloning", "installing", "compiling", "publishing")
KEY = "the-key"
SPECS = (
    FunctionSpec(name="hello", module="jobs", attribute="hello", is_async=False),
    FunctionSpec(
        name="digest",
        module="jobs",
        attribute="digest",
        is_async=True,
        options=FunctionOptions(cron="0 8 * * *", timezone="Europe/Paris"),
    ),
)


@asynccontextmanager
async def server(home: Path, bus: Bus | None = None) -> AsyncIterator[tuple[Store, Run]]:
    """A store with the environment ``production``, and a way to run commands against it."""
    home.mkdir(exist_ok=True)
    (home / "admin.token").write_text(KEY + "\n")
    bus, clock = bus or Bus(), SystemClock()
    store = await Store.open(home / "deferlite.db", clock, bus)
    services = Services(
        store=store,
        bus=bus,
        clock=clock,
        settings=Settings.load({"home": str(home)}, {}),
        execution_tokens=ExecutionTokens(),
        admin_key=KEY,
        sandbox=SandboxStatus(level=Level.PROCESS, detail="none"),
        home=home,
        endpoint="http://127.0.0.1:3337",
        version="0.0.0",
        started_at=clock.now(),
    )

    async def run(*words: str) -> Result:
        result: Result = await anyio.to_thread.run_sync(CliRunner().invoke, cli, (*words, "--home", str(home)))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    try:
        await store.environments.apply("production", EnvironmentConfig(repository="/srv/shop"), "production.toml")
        await publish(store)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                await tasks.start(serve_app, trusted(create_app(services)), bind_unix(home / "deferlite.sock"))
                yield store, run
                tasks.cancel_scope.cancel()
    finally:
        await store.close()


async def request(store: Store, commit: str = "c" * 40) -> str:
    build = await store.builds.request("production", commit=commit, branch="main", message="x", trigger=Trigger.NEW)
    return build.id


async def publish(
    store: Store, specs: tuple[FunctionSpec, ...] = SPECS, *, build_id: str | None = None, **more: Any
) -> str:
    """Take a build, a new one without ``build_id``, through its stages to its end; its id."""
    id = build_id or await request(store)
    for state in STEPS:
        await store.builds.advance(id, BuildState(state))
    manifest = Manifest(runtime="python", interpreter="CPython 3.11.7", modules=("jobs",), functions=specs)
    return (await store.builds.publish(id, manifest, **more)).id


async def start(store: Store) -> tuple[str, int]:
    hello = await store.functions.get("production", "hello")
    (claimed,) = await store.executions.claim([Want("production", hello.id, 1)], "boot", "process")
    return claimed.id, claimed.attempt


async def end(store: Store, running: tuple[str, int], outcome: Outcome) -> None:
    await store.executions.finish([(*running, outcome)])


async def enqueue(store: Store, **more: Any) -> str:
    item = NewExecution(function_name="hello", **more)
    return (await store.executions.enqueue("production", [item]))[0].id


def returned(value: str) -> Outcome:
    return Outcome(ending=Ending.RETURNED, result=value)
