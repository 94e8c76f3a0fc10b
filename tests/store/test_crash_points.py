"""Killed right before and right after a commit: all of an operation is on disk, or nothing of it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deferlite.bus import Bus
from deferlite.model.clock import ManualClock
from deferlite.model.execution import State
from deferlite.store import ExecutionFilter, PageRequest, Store

LIFE = """
import asyncio, pathlib, sys
from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.execution import Ending, NewExecution, Outcome
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest
from deferlite.sdk.retry import RetryPolicy
from deferlite.store import Store, Want

async def live():
    store = await Store.open(pathlib.Path(sys.argv[1]), ManualClock(), Bus())
    await store.environments.apply("shop", EnvironmentConfig(repository="/r"), "shop.toml")
    build = await store.builds.request("shop", commit=None, branch=None, message="", trigger=Trigger.MANUAL)
    for state in list(BuildState)[1:7]:
        await store.builds.advance(build.id, state)
    options = FunctionOptions(retry=RetryPolicy())
    spec = FunctionSpec(name="f", module="m", attribute="f", is_async=False, options=options)
    await store.builds.publish(build.id, Manifest(runtime="python", interpreter="", modules=(), functions=(spec,)))
    function = await store.functions.get("shop", "f")
    execution, = await store.executions.enqueue("shop", [NewExecution(function_name="f", metadata={"k": "v"})])
    claimed, = await store.executions.claim([Want("shop", function.id, 1)], "boot", "process")
    await store.executions.finish([(claimed.id, 1, Outcome(ending=Ending.RAISED, result="{}"))])
    await store.executions.cancel("shop", execution.id, False)
    await store.close()

asyncio.run(live())
"""


@pytest.mark.parametrize(
    ("point", "states", "attempts"),
    [
        ("environment.before_commit", None, []),
        ("environment.after_commit", [], []),
        ("publish.before_commit", [], []),
        ("enqueue.before_commit", [], []),
        ("enqueue.after_commit", [State.CREATED], []),
        ("claim.before_commit", [State.CREATED], []),
        ("claim.after_commit", [State.STARTED], [State.STARTED]),
        ("result.before_commit", [State.STARTED], [State.STARTED]),
        ("retry.before_commit", [State.STARTED], [State.STARTED]),
        ("retry.after_commit", [State.CREATED], [State.FAILED]),
        ("cancel.before_commit", [State.CREATED], [State.FAILED]),
        ("cancel.after_commit", [State.CANCELLED], [State.FAILED]),
    ],
)
def test_the_commit_is_the_line(tmp_path: Path, point: str, states: list[State] | None, attempts: list[State]) -> None:
    path = tmp_path / "deferlite.db"
    life = subprocess.run([sys.executable, "-c", LIFE, path], env={"DEFERLITE_CRASH_AT": point}, check=False)
    assert life.returncode == -signal.SIGKILL

    async def look() -> None:
        store = await Store.open(path, ManualClock(), Bus())
        try:
            environments = await store.environments.list()
            assert bool(environments) == (states is not None)
            rows = (await store.executions.list(ExecutionFilter(), PageRequest())).items
            assert [row.state for row in rows] == (states or [])
            assert sum(sum(counts.values()) for counts in (await store.statistics.environments()).values()) == len(rows)
            tried = [await store.executions.attempts(row.id) for row in rows]
            assert [attempt.state for page in tried for attempt in page.items] == attempts
        finally:
            await store.close()

    asyncio.run(look())


RENAME = """
import asyncio, pathlib, sys
from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.execution import NewExecution
from deferlite.model.function import FunctionSpec, Manifest
from deferlite.store import Store, timing

timing.MOST_SETTLED = 100

async def publish(store, name, aliases):
    build = await store.builds.request("shop", commit=None, branch=None, message="", trigger=Trigger.COMMIT)
    for state in list(BuildState)[1:7]:
        await store.builds.advance(build.id, state)
    spec = FunctionSpec(name=name, module="m", attribute="f", is_async=False, aliases=aliases)
    await store.builds.publish(build.id, Manifest(runtime="python", interpreter="", modules=(), functions=(spec,)))

async def rename():
    store = await Store.open(pathlib.Path(sys.argv[1]), ManualClock(), Bus())
    await store.environments.apply("shop", EnvironmentConfig(repository="/r"), "shop.toml")
    await publish(store, "send", ())
    await store.executions.enqueue("shop", [NewExecution(function_name="send")] * 1000)
    await publish(store, "mail", ("send",))
    await store.close()

asyncio.run(rename())
"""


@pytest.mark.parametrize(
    ("point", "live", "moved"),
    [
        ("publish.before_commit:2", "send", 0),
        ("publish.after_commit:2", "mail", 100),
        ("settle.before_commit:3", "mail", 200),
        ("settle.after_commit:3", "mail", 300),
    ],
)
def test_a_thousand_are_accounted_for_when_a_rename_is_cut_off(
    tmp_path: Path, point: str, live: str, moved: int
) -> None:
    path = tmp_path / "deferlite.db"
    life = subprocess.run([sys.executable, "-c", RENAME, path], env={"DEFERLITE_CRASH_AT": point}, check=False)
    assert life.returncode == -signal.SIGKILL

    async def names(store: Store) -> dict[str, int]:
        statistics = await store.statistics.functions("shop")
        functions = {function.id: function.name for function in await store.functions.list("shop")}
        return {functions[id]: count for id, counts in statistics.items() for count in counts.values()}

    async def look() -> None:
        store = await Store.open(path, ManualClock(), Bus())
        try:
            assert await names(store) == {
                name: count for name, count in (("send", 1000 - moved), ("mail", moved)) if count
            }
            await store.executions.recover("next boot")
            assert await names(store) == {live: 1000}
            rows = (await store.executions.list(ExecutionFilter(), PageRequest(first=1000))).items
            assert {(row.state, row.function_name) for row in rows} == {(State.CREATED, live)}
            assert len(rows) == 1000
        finally:
            await store.close()

    asyncio.run(look())
