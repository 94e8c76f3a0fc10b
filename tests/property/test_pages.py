"""Pages against a plain list: whatever the filter and the sizes, walking gives each row once, in order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import InvalidCursor
from deferlite.model.execution import Execution, NewExecution, State
from deferlite.model.function import FunctionSpec, Manifest
from deferlite.store import ExecutionFilter, PageRequest, Store
from deferlite.store.listing import decode_cursor, encode_cursor

NAMES = ("a", "b")
VALUES = ("x", "y", "z")


async def live(store: Store) -> None:
    await store.environments.apply("shop", EnvironmentConfig(repository="/r"), "f")
    build = await store.builds.request("shop", commit=None, branch=None, message="", trigger=Trigger.MANUAL)
    for state in list(BuildState)[1:7]:
        await store.builds.advance(build.id, state)
    functions = tuple(FunctionSpec(name=name, module="m", attribute=name, is_async=False) for name in NAMES)
    manifest = Manifest(runtime="python", interpreter="", modules=("m",), functions=functions)
    await store.builds.publish(build.id, manifest)


rows = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.sampled_from(VALUES), st.booleans()), max_size=30)
filters = st.fixed_dictionaries(
    {},
    optional={
        "environment": st.just("shop"),
        "states": st.lists(st.sampled_from([State.CREATED, State.CANCELLED, State.FAILED]), max_size=3).map(tuple),
        "function_names": st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
        "metadata": st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(
            lambda values: (("k", tuple(values)),)
        ),
    },
)


def matches(row: Execution, filter: ExecutionFilter) -> bool:
    return (
        (not filter.states or row.state in filter.states)
        and (not filter.function_names or row.function_name in filter.function_names)
        and all(row.metadata.get(key) in values for key, values in filter.metadata)
    )


async def fill(store: Store, wanted: Sequence[tuple[str, str | None, bool]]) -> list[Execution]:
    stored = []
    for name, value, cancelled in wanted:
        metadata = {} if value is None else {"k": value}
        item = NewExecution(function_name=name, metadata=metadata)
        (row,) = await store.executions.enqueue("shop", [item])
        stored.append(await store.executions.cancel(None, row.id, False) if cancelled else row)
    return stored[::-1]


def with_store(test: Callable[[Store], Awaitable[None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await Store.open(Path(folder) / "deferlite.db", ManualClock(), Bus())
            try:
                await live(store)
                await test(store)
            finally:
                await store.close()

    asyncio.run(run())


@given(rows, filters, st.integers(1, 7), st.booleans())
@settings(deadline=None, max_examples=40)
def test_walking_the_pages_gives_the_list(
    wanted: list[tuple[str, str | None, bool]], fields: dict[str, Any], size: int, backward: bool
) -> None:
    async def walk(store: Store) -> None:
        filter = ExecutionFilter(**fields)
        expected = [row for row in await fill(store, wanted) if matches(row, filter)]
        seen: list[Execution] = []
        cursor = None
        while True:
            request = PageRequest(last=size, before=cursor) if backward else PageRequest(first=size, after=cursor)
            page = await store.executions.list(filter, request)
            items = list(page.items)
            seen = items + seen if backward else seen + items
            assert (page.has_prev_page if not backward else page.has_next_page) == (cursor is not None)
            more = page.has_prev_page if backward else page.has_next_page
            assert more == (len(seen) < len(expected))
            if not more:
                break
            cursor = page.start_cursor if backward else page.end_cursor
        assert seen == expected

    with_store(walk)


@given(st.integers(0, 2**63 - 1), st.sampled_from(["execution", "attempt"]))
def test_a_cursor_is_read_back(position: int, kind: str) -> None:
    assert decode_cursor(kind, encode_cursor(kind, position)) == position


@given(st.text(max_size=30) | st.binary(max_size=12).map(lambda raw: raw.hex()))
def test_nothing_else_is_a_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor("execution", text)
