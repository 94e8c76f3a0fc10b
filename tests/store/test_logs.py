"""Logs and counters."""

from __future__ import annotations

from typing import Any

import pytest

from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import NotFound
from deferlite.model.events import BuildLogged, ExecutionLogged
from deferlite.model.execution import Ending, LogLine, State

pytestmark = pytest.mark.anyio

LINES = [LogLine(1, "stdout", "one"), LogLine(2, "logging", "two", "WARNING"), LogLine(3, "stderr", "drei ☃")]


async def test_lines_are_read_in_order_and_on_from_any_of_them(world: Any) -> None:
    events: list[object] = []
    execution = await world.end(await world.start(await world.live()))
    with world.bus.listening(ExecutionLogged, events.append):
        await world.store.logs.append(execution.id, 1, LINES[:2])
        await world.store.logs.append(execution.id, 2, LINES[2:])
    assert events[0] == ExecutionLogged(environment="shop", execution_id=execution.id, attempt=1)
    read = await world.store.logs.read(execution.id)
    assert [(attempt, line) for _, attempt, line in read] == [(1, LINES[0]), (1, LINES[1]), (2, LINES[2])]
    assert await world.store.logs.read(execution.id, after_seq=read[0][0], limit=1) == [read[1]]
    with pytest.raises(NotFound):
        await world.store.logs.append("unknown", 1, LINES)


async def test_a_builds_lines(world: Any) -> None:
    events: list[object] = []
    await world.store.environments.apply("shop", EnvironmentConfig(repository="/r"), "f")
    build = await world.request()
    with world.bus.listening(BuildLogged, events.append):
        await world.store.logs.append_build(build.id, LINES)
    assert events == [BuildLogged(environment="shop", build_id=build.id)]
    assert [line for _, line in await world.store.logs.read_build(build.id)] == LINES
    with pytest.raises(NotFound):
        await world.store.logs.append_build("unknown", LINES)


async def test_counters_follow_every_state(world: Any) -> None:
    a = await world.live("a", "b")
    b = await world.store.functions.get("shop", "b")
    await world.end(await world.start(a))
    await world.end(await world.start(a), Ending.RAISED, "{}")
    aborting = await world.start(a)
    await world.store.executions.cancel(None, aborting.id, True)
    for _ in range(3):
        await world.enqueue("b")
    await world.claim(b, 1)
    await world.live("a", environment="other")
    assert await world.store.statistics.functions("shop") == {
        a.id: {State.SUCCEED: 1, State.FAILED: 1, State.ABORTING: 1},
        b.id: {State.CREATED: 2, State.STARTED: 1},
    }
    assert await world.store.statistics.environments() == {
        "shop": {
            State.SUCCEED: 1,
            State.FAILED: 1,
            State.ABORTING: 1,
            State.CREATED: 2,
            State.STARTED: 1,
        }
    }
