"""A function renamed while its executions wait and run: each is ordered by a name that its build has."""

from __future__ import annotations

from pathlib import Path

import pytest

from deferlite.model.build import BuildState, Trigger
from deferlite.model.execution import Ending
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest
from deferlite.sdk.retry import RetryPolicy
from tests.services.dispatcher_fixtures import World, made_world

pytestmark = pytest.mark.anyio


async def publish(world: World, name: str, *aliases: str) -> str:
    build = await world.store.builds.request("shop", commit="c" * 40, branch=None, message="", trigger=Trigger.COMMIT)
    for state in ("started", "cloning", "installing", "compiling", "publishing"):
        await world.store.builds.advance(build.id, BuildState(state))
    options = FunctionOptions(concurrency=1, retry=RetryPolicy(max_attempts=1, initial_interval=0))
    spec = FunctionSpec(name=name, module="jobs", attribute=name, is_async=False, options=options, aliases=aliases)
    other = FunctionSpec(name="other", module="jobs", attribute="other", is_async=False)
    functions = (spec, other)
    manifest = Manifest(runtime="python", interpreter="CPython", modules=("jobs",), functions=functions)
    await world.store.builds.publish(build.id, manifest)
    return build.id


async def test_what_waits_and_what_is_retried_start_under_the_new_name(tmp_path: Path) -> None:
    async with made_world(tmp_path) as world:
        orders = world.executor.orders
        await publish(world, "send")
        running = await world.enqueue("send")
        await world.executor.until(lambda: running in orders)
        waiting = await world.enqueue("send")
        renamed = await publish(world, "mail", "send")
        other = await world.enqueue("other")
        await world.executor.until(lambda: other in orders)
        # One at a time: what runs under the former name counts.
        assert (orders[other].build_id, waiting in orders) == (renamed, False)
        world.executor.end(running, Ending.RAISED, "{}")
        await world.executor.until(lambda: running in orders)
        assert (orders[running].function_name, orders[running].attempt, waiting in orders) == ("mail", 2, False)
        world.executor.end(running)
        await world.executor.until(lambda: waiting in orders)
        assert (orders[waiting].function_name, orders[waiting].build_id) == ("mail", renamed)
        await world.store.builds.rollback("shop", None)
        late = await world.enqueue("mail")
        world.executor.end(waiting)
        await world.executor.until(lambda: late in orders)
        assert orders[late].function_name == "send"
