"""Lists: filters, pages both ways, cursors, and that an index serves them."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from deferlite.model.clock import SECOND
from deferlite.model.errors import InvalidCursor
from deferlite.model.execution import Ending, ErrorCode, State
from deferlite.store import ExecutionFilter, PageRequest, Span
from deferlite.store.listing import _Bounds, _select, encode_cursor, executions

pytestmark = pytest.mark.anyio


async def ids(world: Any, **fields: Any) -> list[str]:
    page = await world.store.executions.list(ExecutionFilter(**fields), PageRequest(first=1000))
    return [row.id for row in page.items]


async def test_filters_narrow_and_values_are_alternatives(world: Any) -> None:
    a = await world.live("a", "b")
    b = await world.store.functions.get("shop", "b")
    await world.live("a", environment="other")
    start = world.clock.now()
    done = await world.end(await world.start(a, metadata={"user": "7", "kind": "full"}))
    world.clock.advance(10)
    failed = await world.end(await world.start(b, metadata={"user": "8"}), Ending.TIMED_OUT, "{}")
    world.clock.advance(10)
    waiting = await world.enqueue("a", metadata={"user": "9", "kind": "full"}, parent_id=done.id)
    elsewhere = await world.enqueue("a", environment="other", metadata={"user": "7"})
    assert await ids(world) == [elsewhere.id, waiting.id, failed.id, done.id]
    shop = {"environment": "shop"}
    for fields, expected in (
        (shop, [waiting, failed, done]),
        ({"states": (State.FAILED,)}, [failed]),
        ({"states": (State.CREATED,)}, [elsewhere, waiting]),
        (shop | {"states": (State.SUCCEED, State.CREATED)}, [waiting, done]),
        ({"function_ids": (a.id, b.id)}, [waiting, failed, done]),
        ({"function_ids": (a.id,), "states": (State.SUCCEED, State.FAILED)}, [done]),
        (shop | {"function_names": ("b", "c")}, [failed]),
        ({"error_codes": (ErrorCode.TIMEOUT,)}, [failed]),
        ({"error_codes": (ErrorCode.INTERNAL,)}, []),
        (shop | {"metadata": (("user", ("7", "8")),)}, [failed, done]),
        (shop | {"metadata": (("user", ("7", "9")), ("kind", ("full",)))}, [waiting, done]),
        (shop | {"metadata": (("user", ("7",)),), "states": (State.CREATED,)}, []),
        ({"metadata": (("user", ("7",)),)}, [elsewhere, done]),
        (shop | {"metadata": (("kind", ()),)}, [waiting, done]),
        ({"scheduled_at": Span(start=start + 10 * SECOND, end=start + 10 * SECOND)}, [failed]),
        ({"started_at": Span(end=start + 5 * SECOND)}, [done]),
        ({"parent_id": done.id}, [waiting]),
        ({"parent_id": done.id, "states": (State.SUCCEED,)}, []),
        ({"build_ids": (done.build_id,)}, [failed, done]),
        ({"executed_by": ("cron",)}, []),
    ):
        assert await ids(world, **fields) == [row.id for row in expected], fields


async def test_pages_both_ways(world: Any) -> None:
    await world.live()
    rows = [(await world.enqueue()).id for _ in range(5)][::-1]
    listed = world.store.executions.list

    async def page(**request: Any) -> tuple[list[str], bool, bool, str, str]:
        page = await listed(ExecutionFilter(environment="shop"), PageRequest(**request))
        flags = page.has_prev_page, page.has_next_page
        return [row.id for row in page.items], *flags, page.start_cursor, page.end_cursor

    items, before, after, start, end = await page(first=2)
    assert (items, before, after) == (rows[:2], False, True)
    items, before, after, start, end = await page(first=2, after=end)
    assert (items, before, after) == (rows[2:4], True, True)
    assert (await page(last=2, before=start))[:3] == (rows[:2], False, True)
    assert (await page(first=2, after=end))[:3] == (rows[4:], True, False)
    assert (await page(last=2))[:3] == (rows[3:], True, False)
    assert (await page(last=1, before=end))[:3] == (rows[2:3], True, True)


async def test_attempts_have_pages_and_filters_too(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(function)
    for _ in range(3):
        await world.end(claimed, Ending.INTERRUPTED)
        (claimed,) = await world.claim(function)
    attempts = world.store.executions.attempts
    page = await attempts(claimed.id, page=PageRequest(first=2))
    assert [attempt.number for attempt in page.items] == [4, 3]
    page = await attempts(claimed.id, page=PageRequest(first=2, after=page.end_cursor))
    assert ([attempt.number for attempt in page.items], page.has_next_page) == ([2, 1], False)
    page = await attempts(claimed.id, states=(State.STARTED,))
    assert [attempt.number for attempt in page.items] == [4]
    assert (await attempts("unknown")).items == ()


@pytest.mark.parametrize(
    "request_",
    [
        PageRequest(first=1, last=1),
        PageRequest(first=0),
        PageRequest(last=-1),
        PageRequest(after="abc"),
        PageRequest(after="☃"),
        PageRequest(before=encode_cursor("execution", 7)[:-4] + "AAAA"),
        PageRequest(after=encode_cursor("attempt", 7)),
    ],
)
async def test_pages_that_cannot_be_are_refused(world: Any, request_: PageRequest) -> None:
    with pytest.raises(InvalidCursor):
        await world.store.executions.list(ExecutionFilter(), request_)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"environment": "shop"},
        {"environment": "shop", "states": (State.FAILED,)},
        {"environment": "shop", "states": (State.FAILED, State.CREATED)},
        {"states": (State.FAILED,)},
        {"function_ids": ("f", "g"), "states": (State.STARTED,)},
        {"environment": "shop", "metadata": (("user", ("7", "8")),)},
        {"environment": "shop", "metadata": (("user", ("7",)),), "states": (State.FAILED,)},
        {"parent_id": "p"},
    ],
)
async def test_an_index_gives_the_order_and_nothing_is_sorted(world: Any, fields: dict[str, Any]) -> None:
    listing = executions(ExecutionFilter(**fields))
    connection = sqlite3.connect(world.path)
    for backward in (False, True):
        sql, parameters = _select(listing, _Bounds(size=50, backward=backward, after=9, before=None))
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        # The outermost step of a merge may put the rows of the page in order, no more.
        merged = len(listing.arms) > 1
        sorts = [step for _, parent, _, step in plan if "TEMP B-TREE" in step and (parent or not merged)]
        assert sorts == [], plan
    connection.close()
