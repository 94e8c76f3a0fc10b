"""A function renamed while its executions wait and run: each is ordered by a name that its build has."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from deferlite.model.build import BuildState, Trigger
from deferlite.model.events import ParentParked, ParentReady, ParentResumed
from deferlite.model.execution import Ending
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest
from deferlite.sdk.retry import RetryPolicy
from tests.services.dispatcher_fixtures import PATIENCE, World, made_world

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


async def test_a_parent_parked_under_a_former_name_goes_on_within_the_limit_of_the_new_one(tmp_path: Path) -> None:
    async with made_world(tmp_path) as world:
        orders = world.executor.orders
        await publish(world, "send")
        parent = await world.enqueue("send")
        await world.executor.until(lambda: parent in orders)
        world.bus.publish(ParentParked(environment="shop", execution_id=parent))
        await publish(world, "mail", "send")
        second = await world.enqueue("mail")
        await world.executor.until(lambda: second in orders)
        with world.bus.subscribe(ParentResumed) as resumed:
            world.bus.publish(ParentReady(environment="shop", execution_id=parent, parked=1))
            other = await world.enqueue("other")
            await world.executor.until(lambda: other in orders)
            assert resumed.statistics().current_buffer_used == 0
            world.executor.end(second)
            with anyio.fail_after(PATIENCE):
                assert (await resumed.receive()).execution_id == parent


async def test_a_build_that_goes_live_in_the_middle_of_a_look_starts_nothing_beyond_its_limits(tmp_path: Path) -> None:
    async with made_world(tmp_path) as world:
        entered, gate = anyio.Event(), anyio.Event()

        async def warm(environment: str, build_id: str) -> None:
            entered.set()
            await gate.wait()

        world.executor.warm = warm  # type: ignore[method-assign]
        await publish(world, "send")
        await entered.wait()
        waiting = [await world.enqueue("send") for _ in range(3)]
        await publish(world, "mail", "send")
        other = await world.enqueue("other")
        gate.set()
        await world.executor.until(lambda: other in world.executor.orders)
        assert len(world.executor.orders.keys() & set(waiting)) <= 1
        for _ in waiting:
            await world.executor.until(lambda: bool(world.executor.orders.keys() & set(waiting)))
            (running,) = world.executor.orders.keys() & set(waiting)
            world.executor.end(running)
