"""Keyset pages: no row is counted and none skipped over, however long the list.

A filter becomes one or more arms, disjoint conditions that each walk an index in order; SQLite merges the walks and
stops after the page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from deferlite.model.errors import InvalidCursor
from deferlite.model.execution import State
from deferlite.store.database import Database, Row
from deferlite.store.queries import DEFAULT_PAGE, LARGEST_PAGE, ExecutionFilter, Page, PageRequest, Span
from deferlite.store.rows import ATTEMPT_COLUMNS, EXECUTION_COLUMNS

T = TypeVar("T")

_MOST_ARMS = 64
"""SQLite merges up to 500; beyond this one walk that filters is as good."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What is listed: ``arms`` are sources and conditions that yield each row once, ordered by ``position``.

    ``walked`` names the position in the index that an arm walks, where that is another column.
    """

    kind: str
    columns: str
    table: str
    position: str
    walked: str
    arms: tuple[str, ...]
    parameters: dict[str, Any]


class _Bounds(msgspec.Struct, frozen=True):
    size: int
    backward: bool
    after: int | None
    before: int | None


async def page(database: Database, listing: Listing, request: PageRequest, convert: Callable[[Row], T]) -> Page[T]:
    """The page asked for, newest first. Raises InvalidCursor."""
    bounds = _bounds(listing.kind, request)
    rows = await database.rows(*_select(listing, bounds))
    more = len(rows) > bounds.size
    rows = rows[: bounds.size]
    if bounds.backward:
        rows.reverse()
    newer, older = await _beyond(database, listing, bounds, rows, more)
    cursors = [encode_cursor(listing.kind, row[0]) for row in (rows[0], rows[-1])] if rows else [None, None]
    return Page(
        items=tuple(convert(row[1:]) for row in rows),
        has_next_page=older,
        has_prev_page=newer,
        start_cursor=cursors[0],
        end_cursor=cursors[1],
    )


def executions(filter: ExecutionFilter) -> Listing:
    query = _Conditions()
    arms = query.arms(filter)
    return Listing(
        kind="execution",
        columns=EXECUTION_COLUMNS,
        table="executions",
        position="seq",
        walked=query.walked,
        arms=arms,
        parameters=query.parameters,
    )


def attempts(id: str, states: Sequence[State]) -> Listing:
    query = _Conditions()
    where = [f"execution_id = {query.bind(id)}"]
    query.among(where, "state", [state.value for state in states])
    return Listing(
        kind="attempt",
        columns=ATTEMPT_COLUMNS,
        table="attempts",
        position="number",
        walked="number",
        arms=(f"attempts WHERE {' AND '.join(where)}",),
        parameters=query.parameters,
    )


class _Conditions:
    """Collects parameters while conditions are written."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self.walked = "seq"

    def bind(self, value: Any) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def among(self, where: list[str], column: str, values: Sequence[str]) -> None:
        if values:
            where.append(f"{column} IN ({', '.join(map(self.bind, values))})")

    def within(self, where: list[str], column: str, span: Span) -> None:
        if span.start is not None:
            where.append(f"{column} >= {self.bind(span.start)}")
        if span.end is not None:
            where.append(f"{column} <= {self.bind(span.end)}")

    def arms(self, filter: ExecutionFilter) -> tuple[str, ...]:
        rest: list[str] = []
        if filter.environment is not None:
            # The plus keeps SQLite on the index that each arm is made for.
            rest.append(f"+environment = {self.bind(filter.environment)}")
        self.among(rest, "function_name", filter.function_names)
        self.among(rest, "error_code", [code.value for code in filter.error_codes])
        self.among(rest, "build_id", filter.build_ids)
        self.among(rest, "executed_by", filter.executed_by)
        self.within(rest, "scheduled_at", filter.scheduled_at)
        self.within(rest, "started_at", filter.started_at)
        for key, values in filter.metadata:
            self._metadata(rest, key, values)
        sources = self._sources(filter, rest)
        tail = "".join(f" AND {condition}" for condition in rest)
        return tuple(f"{source}{tail}" for source in sources)

    def _metadata(self, rest: list[str], key: str, values: Sequence[str]) -> None:
        among = [f"key = {self.bind(key)}"]
        self.among(among, "value", values)
        rest.append(
            "EXISTS (SELECT 1 FROM execution_metadata AS pair WHERE pair.seq = executions.seq AND "
            f"{' AND '.join(among)})"
        )

    def _sources(self, filter: ExecutionFilter, rest: list[str]) -> list[str]:
        states = [state.value for state in filter.states]
        if filter.parent_id is not None:
            self.among(rest, "+state", states)
            return [f"executions WHERE parent_id = {self.bind(filter.parent_id)}"]
        if filter.environment is not None and filter.metadata and filter.metadata[0][1]:
            self.among(rest, "+state", states)
            self.among(rest, "+function_id", filter.function_ids)
            return self._by_metadata(filter.environment, *filter.metadata[0])
        ids = filter.function_ids
        if ids and len(ids) * (len(states) or len(State)) <= _MOST_ARMS:
            return self._by_state("function_id", ids, states)
        self.among(rest, "+function_id", ids)
        if filter.environment is not None:
            return self._by_state("environment", [filter.environment], states)
        if states == [State.FAILED]:
            return ["executions WHERE state = 'failed'"]
        self.among(rest, "+state", states)
        return ["executions WHERE TRUE"]

    def _by_state(self, column: str, values: Sequence[str], states: Sequence[str]) -> list[str]:
        names = [self.bind(value) for value in dict.fromkeys(values)]
        wanted = dict.fromkeys(states) or [state.value for state in State]
        return [
            f"executions WHERE {column} = {name} AND state = '{state}'"
            for name, state in itertools.product(names, wanted)
        ]

    def _by_metadata(self, environment: str, key: str, values: Sequence[str]) -> list[str]:
        self.walked = "tagged"
        where = f"environment = {self.bind(environment)} AND key = {self.bind(key)}"
        return [
            f"(SELECT seq AS tagged FROM execution_metadata WHERE {where} AND value = {self.bind(value)}) "
            "CROSS JOIN executions ON seq = tagged WHERE TRUE"
            for value in dict.fromkeys(values)
        ]


def _select(listing: Listing, bounds: _Bounds) -> tuple[str, dict[str, Any]]:
    limits = []
    if bounds.after is not None:
        limits.append(f"{listing.walked} < :after")
    if bounds.before is not None:
        limits.append(f"{listing.walked} > :before")
    found = _merge(listing, limits, "ASC" if bounds.backward else "DESC")
    parameters = listing.parameters | {"after": bounds.after, "before": bounds.before, "size": bounds.size + 1}
    return found, parameters


def _merge(listing: Listing, limits: Sequence[str], order: str) -> str:
    tail = "".join(f" AND {limit}" for limit in limits)
    if len(listing.arms) == 1:
        return (
            f"SELECT {listing.walked} AS place, {listing.columns} FROM {listing.arms[0]}{tail} "
            f"ORDER BY place {order} LIMIT :size"
        )
    arms = " UNION ALL ".join(f"SELECT {listing.walked} AS place FROM {arm}{tail}" for arm in listing.arms)
    return (
        f"SELECT place, {listing.columns} FROM ({arms} ORDER BY place {order} LIMIT :size) "
        f"CROSS JOIN {listing.table} ON {listing.table}.{listing.position} = place ORDER BY place {order}"
    )


async def _beyond(
    database: Database, listing: Listing, bounds: _Bounds, rows: Sequence[Row], more: bool
) -> tuple[bool, bool]:
    """Whether there are newer and older rows than the page."""
    newest, oldest = (rows[0][0], rows[-1][0]) if rows else (None, None)
    newer = (bounds.backward and more) or (
        bounds.after is not None and await _exists(database, listing, ">", newest, ">=", bounds.after)
    )
    older = (not bounds.backward and more) or (
        bounds.before is not None and await _exists(database, listing, "<", oldest, "<=", bounds.before)
    )
    return newer, older


async def _exists(
    database: Database, listing: Listing, sign: str, edge: int | None, empty_sign: str, bound: int
) -> bool:
    if edge is None:
        # An empty page: what lies beyond it begins with the row of the cursor itself.
        sign, edge = empty_sign, bound
    sql = _merge(listing, [f"{listing.walked} {sign} :edge"], "ASC")
    rows = await database.rows(sql, listing.parameters | {"edge": edge, "size": 1})
    return bool(rows)


def _bounds(kind: str, request: PageRequest) -> _Bounds:
    if request.first is not None and request.last is not None:
        raise InvalidCursor('a page is either its "first" or its "last" rows, not both')
    size = request.first if request.first is not None else request.last
    if size is not None and size < 1:
        raise InvalidCursor(f"a page has from 1 to {LARGEST_PAGE} rows, not {size}")
    return _Bounds(
        size=min(size or DEFAULT_PAGE, LARGEST_PAGE),
        backward=request.last is not None or (request.first is None and request.before is not None),
        after=None if request.after is None else decode_cursor(kind, request.after),
        before=None if request.before is None else decode_cursor(kind, request.before),
    )


def encode_cursor(kind: str, position: int) -> str:
    number = position.to_bytes(8, "big")
    return base64.urlsafe_b64encode(number + _check(kind, number)).decode()


def decode_cursor(kind: str, text: str) -> int:
    """Raises InvalidCursor."""
    try:
        content = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        content = b""
    number, check = content[:8], content[8:]
    if len(content) != 12 or check != _check(kind, number):
        raise InvalidCursor(f'"{text[:40]}" is not a cursor of this list: use the ones in "page_info"')
    return int.from_bytes(number, "big")


def _check(kind: str, number: bytes) -> bytes:
    return hashlib.blake2b(number, digest_size=4, person=kind.encode()).digest()
