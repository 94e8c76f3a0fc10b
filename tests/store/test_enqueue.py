"""Enqueue: all or none, due or delayed, the same key once."""

from __future__ import annotations

from typing import Any

import pytest

from deferlite.model.clock import SECOND
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import Conflict, NotFound, UnknownFunction
from deferlite.model.events import ExecutionsEnqueued
from deferlite.model.execution import NewExecution, State
from deferlite.store import ExecutionFilter, PageRequest

pytestmark = pytest.mark.anyio


async def test_what_was_enqueued_is_read_back_as_it_was_answered(world: Any) -> None:
    function = await world.live()
    execution = await world.enqueue(
        arguments='["acme", []]', keyword_arguments='{"dry": true}', metadata={"user": "7"}, priority=5
    )
    assert execution == await world.store.executions.get("shop", execution.id)
    assert execution == await world.store.executions.get(None, execution.id)
    assert (execution.state, execution.function_id, execution.attempt) == (State.CREATED, function.id, 0)
    assert await world.store.executions.arguments(execution.id) == ('["acme", []]', '{"dry": true}')
    assert await world.store.executions.result(execution.id) is None


async def test_an_execution_of_another_environment_is_not_found(world: Any) -> None:
    await world.live()
    execution = await world.enqueue()
    with pytest.raises(NotFound, match=f'cannot find execution "{execution.id}"'):
        await world.store.executions.get("staging", execution.id)


async def test_one_unknown_function_keeps_the_whole_batch_out(world: Any) -> None:
    await world.live()
    items = [NewExecution(function_name="import_contacts"), NewExecution(function_name="import_contatcs")]
    with pytest.raises(UnknownFunction, match='cannot find function "import_contatcs"'):
        await world.store.executions.enqueue("shop", items)
    page = await world.store.executions.list(ExecutionFilter(), PageRequest())
    assert page.items == ()
    assert await world.store.statistics.environments() == {}


async def test_a_large_batch_keeps_its_order(world: Any) -> None:
    await world.live("a", "b")
    items = [NewExecution(function_name="ab"[n % 2], arguments=f"[{n}]") for n in range(57)]
    executions = await world.store.executions.enqueue("shop", items)
    for number, execution in enumerate(executions):
        assert await world.store.executions.arguments(execution.id) == (f"[{number}]", "{}")
    page = await world.store.executions.list(ExecutionFilter(), PageRequest(first=100))
    assert list(page.items) == executions[::-1]


async def test_without_a_live_build_nothing_can_be_enqueued(world: Any) -> None:
    with pytest.raises(NotFound, match='no environment "shop"'):
        await world.enqueue()
    await world.store.environments.apply("shop", EnvironmentConfig(repository="/r"), "f")
    with pytest.raises(Conflict, match="no build yet"):
        await world.enqueue()
    await world.live()
    await world.store.environments.retire("shop")
    with pytest.raises(Conflict, match="retired"):
        await world.enqueue()


async def test_the_dispatcher_hears_what_is_due_and_the_timers_what_is_not(world: Any) -> None:
    function = await world.live()
    now = world.clock.now()
    world.events.clear()
    await world.enqueue()
    await world.enqueue(scheduled_at=now + 60 * SECOND)
    await world.enqueue(discard_at=now + 30 * SECOND)
    dues = [None, now + 60 * SECOND, now + 30 * SECOND]
    assert world.heard(ExecutionsEnqueued) == [
        ExecutionsEnqueued(environment="shop", function_ids=frozenset({function.id}), due_at=due) for due in dues
    ]


async def test_a_moment_in_the_past_is_due(world: Any) -> None:
    function = await world.live()
    execution = await world.enqueue(scheduled_at=world.clock.now() - SECOND)
    assert [claimed.id for claimed in await world.claim(function)] == [execution.id]


async def test_the_same_key_answers_the_same_execution_for_a_day(world: Any) -> None:
    function = await world.live()
    first = await world.enqueue(idempotency_key="order-7")
    await world.end((await world.claim(function))[0])
    world.clock.advance(24 * 3600 - 1)
    second = await world.enqueue(idempotency_key="order-7", arguments="[2]")
    assert (second.id, second.state) == (first.id, State.SUCCEED)
    world.clock.advance(1)
    third = await world.enqueue(idempotency_key="order-7")
    assert third.id != first.id


async def test_the_same_key_twice_in_one_batch_is_one_execution(world: Any) -> None:
    await world.live()
    item = NewExecution(function_name="import_contacts", idempotency_key="order-7")
    first, other, second = await world.store.executions.enqueue(
        "shop", [item, NewExecution(function_name="import_contacts"), item]
    )
    assert first.id == second.id != other.id
    assert (await world.store.statistics.environments())["shop"] == {State.CREATED: 2}


async def test_keys_of_environments_do_not_meet(world: Any) -> None:
    await world.live()
    await world.live(environment="staging")
    first = await world.enqueue(idempotency_key="k")
    second = await world.enqueue(environment="staging", idempotency_key="k")
    assert first.id != second.id


async def test_children_are_listed_under_their_parent(world: Any) -> None:
    await world.live()
    parent = await world.enqueue()
    children = [await world.enqueue(parent_id=parent.id) for _ in range(3)]
    assert await world.store.executions.children(parent.id) == children


async def test_a_refused_row_leaves_nothing(world: Any) -> None:
    await world.live()
    with pytest.raises(Exception, match="CHECK constraint failed: priority"):
        await world.enqueue(priority=101)
    assert (await world.store.executions.list(ExecutionFilter(), PageRequest())).items == ()
