"""What the dispatcher holds when things come at the same time, or where there is room for one only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from deferlite.model.events import ExecutionChanged, ParentParked, ParentReady, ParentResumed
from deferlite.model.execution import State
from deferlite.model.function import FunctionOptions
from tests.services.dispatcher_fixtures import PATIENCE, World, made_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[World]:
    """One execution at a time."""
    async with made_world(tmp_path, concurrency=1) as made:
        yield made


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with made_world(tmp_path) as made:
        yield made


async def test_a_function_with_nothing_to_do_keeps_no_other_from_the_only_slot(narrow: World) -> None:
    await narrow.publish(a=FunctionOptions(), b=FunctionOptions(), c=FunctionOptions(), d=FunctionOptions())
    execution_id = await narrow.enqueue("d")
    await narrow.executor.until(lambda: execution_id in narrow.executor.orders)


async def test_an_abort_between_the_claim_and_the_start_follows_the_start(world: World) -> None:
    await world.publish(f=FunctionOptions())
    reached, go_on = anyio.Event(), anyio.Event()
    manifest = world.store.builds.manifest

    async def slow_manifest(build_id: str) -> Any:
        reached.set()
        await go_on.wait()
        return await manifest(build_id)

    world.store.builds.manifest = slow_manifest  # type: ignore[method-assign]
    execution_id = await world.enqueue("f")
    with anyio.fail_after(PATIENCE):
        await reached.wait()
    assert (await world.store.executions.cancel("shop", execution_id, True)).state is State.ABORTING
    go_on.set()
    await world.until_state(execution_id, State.ABORTED)


async def test_a_stop_during_a_claim_waits_for_its_start(world: World) -> None:
    await world.publish(f=FunctionOptions())
    dispatcher = world.executor.dispatcher
    async with anyio.create_task_group() as group:
        with (
            world.bus.listening(
                ExecutionChanged,
                # On disk, but not yet known to the dispatcher.
                lambda event: (
                    group.start_soon(dispatcher.drain, world.executor, 0) if event.state == "started" else None
                ),
            ),
            anyio.fail_after(PATIENCE),
        ):
            execution_id = await world.enqueue("f")
            back = await world.until_state(execution_id, State.CREATED)
            while not back.attempt:
                await anyio.lowlevel.checkpoint()
                back = await world.until_state(execution_id, State.CREATED)
    assert (back.attempt, back.interruptions) == (1, 0)


async def test_a_ready_parent_stays_without_a_slot_until_one_is_free(narrow: World) -> None:
    await narrow.publish(f=FunctionOptions())
    parent = await narrow.enqueue("f")
    await narrow.executor.until(lambda: parent in narrow.executor.orders)
    other = await narrow.enqueue("f")
    resumed: list[str] = []
    with narrow.bus.listening(ParentResumed, lambda event: resumed.append(event.execution_id)):
        narrow.bus.publish(ParentParked(environment="shop", execution_id=parent))
        await narrow.executor.until(lambda: other in narrow.executor.orders)
        narrow.bus.publish(ParentReady(environment="shop", execution_id=parent))
        narrow.bus.publish(ParentReady(environment="shop", execution_id=parent, parked=False))
        assert resumed == []
        narrow.executor.end(other)
        await narrow.until_state(other, State.SUCCEED)
        with anyio.fail_after(PATIENCE):
            while not resumed:
                await anyio.lowlevel.checkpoint()
        resumed.clear()
        narrow.bus.publish(ParentReady(environment="shop", execution_id=parent, parked=False))
        assert resumed == [parent]


async def test_one_execution_of_a_concurrency_key_at_a_time(world: World) -> None:
    await world.publish(f=FunctionOptions(), g=FunctionOptions(concurrency=5))
    same = {await world.enqueue(name, concurrency_key="acme") for name in ("f", "g", "f", "g")}
    free = {await world.enqueue("f"), await world.enqueue("g", concurrency_key="umbrella")}
    await world.executor.until(lambda: free <= set(world.executor.orders))
    while same:
        await world.executor.until(lambda: bool(same & set(world.executor.orders)))
        (running,) = same & set(world.executor.orders)
        same.remove(running)
        world.executor.end(running)


async def test_a_waiting_parent_gives_its_concurrency_key_to_its_child(world: World) -> None:
    await world.publish(f=FunctionOptions(), g=FunctionOptions())
    parent = await world.enqueue("f", concurrency_key="acme")
    await world.executor.until(lambda: parent in world.executor.orders)
    child = await world.enqueue("g", concurrency_key="acme", parent_id=parent)
    world.bus.publish(ParentParked(environment="shop", execution_id=parent))
    await world.executor.until(lambda: child in world.executor.orders)
    resumed: list[str] = []
    with world.bus.listening(ParentResumed, lambda event: resumed.append(event.execution_id)):
        world.bus.publish(ParentReady(environment="shop", execution_id=parent))
        later = await world.enqueue("f")
        await world.executor.until(lambda: later in world.executor.orders)
        assert resumed == []
        world.executor.end(child)
        with anyio.fail_after(PATIENCE):
            while not resumed:
                await anyio.lowlevel.checkpoint()
