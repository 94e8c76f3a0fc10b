"""Executions of one concurrency key are claimed one at a time, in order, whatever waits beside them."""

from __future__ import annotations

from typing import Any

import pytest

from deferlite.model.execution import NewExecution, State
from deferlite.store import running

pytestmark = pytest.mark.anyio


async def test_one_of_each_key_and_all_without_one_in_their_order(world: Any) -> None:
    function = await world.live()
    a1, a2 = [await world.enqueue(concurrency_key="a") for _ in range(2)]
    plain = await world.enqueue()
    b = await world.enqueue(concurrency_key="b", priority=1)
    assert [row.id for row in await world.claim(function)] == [b.id, a1.id, plain.id]
    assert await world.claim(function) == []
    assert (await world.store.executions.get(None, a1.id)).state is State.STARTED
    assert (await world.store.executions.get(None, a2.id)).attempt == 0


async def test_the_end_frees_the_key(world: Any) -> None:
    function = await world.live()
    first = await world.start(function, concurrency_key="a")
    second = await world.enqueue(concurrency_key="a")
    assert await world.claim(function) == []
    await world.end(first)
    assert [row.id for row in await world.claim(function)] == [second.id]


async def test_another_environment_has_keys_of_its_own(world: Any) -> None:
    await world.start(await world.live(), concurrency_key="a")
    assert await world.start(await world.live(environment="staging"), concurrency_key="a")


async def test_a_parked_execution_does_not_hold_its_key(world: Any) -> None:
    function = await world.live()
    parent = await world.start(function, concurrency_key="a")
    child = await world.enqueue(concurrency_key="a")
    wants = [running.Want(function.environment, function.id, 10)]
    claimed = await world.store.executions.claim(wants, "boot", "process", [parent.id])
    assert [row.id for row in claimed] == [child.id]


async def test_of_very_many_keys_each_has_its_turn(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MOST_KEYS", 3)
    function = await world.live()
    items = [NewExecution(function_name=function.name, concurrency_key=f"key {number}") for number in range(8)]
    enqueued = await world.store.executions.enqueue("shop", items)
    claimed = []
    for _ in range(4):
        claimed += await world.claim(function, 2)
    assert {row.id for row in claimed} == {row.id for row in enqueued}


async def test_a_long_queue_of_one_key_hides_nothing_behind_it(world: Any) -> None:
    function = await world.live()
    await world.start(function, concurrency_key="a")
    items = [NewExecution(function_name=function.name, concurrency_key="a")] * 3000
    await world.store.executions.enqueue("shop", items)
    behind = [await world.enqueue(), await world.enqueue(concurrency_key="b")]
    assert [row.id for row in await world.claim(function)] == [row.id for row in behind]
