"""Filters and pages of lists as they stand in an address: ``?state=failed&metadata=user=7&first=50``."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

from starlette.datastructures import QueryParams

from deferlite.model.execution import ErrorCode, State
from deferlite.model.ids import parse_id
from deferlite.store import ExecutionFilter, PageRequest
from deferlite.store.queries import DEFAULT_PAGE, LARGEST_PAGE
from deferlite.web.errors import bad_request

E = TypeVar("E", bound=Enum)
FILTERS = ("environment", "state", "function", "error_code", "metadata", "build", "parent")
PAGES = ("first", "after", "last", "before")
_LARGEST_SEQ = 10**15 - 1


def parse_filter(query: QueryParams) -> ExecutionFilter:
    """Repeated keys are alternatives, different keys narrow; empty values (a form's) are no condition.

    Raises:
        ApiError: 400, an unknown state or code, metadata without ``=``.
        InvalidId: build or parent is not an id.
    """
    return ExecutionFilter(
        environment=query.get("environment") or None,
        states=_members(State, _values(query, "state"), "state"),
        function_names=_values(query, "function"),
        error_codes=_members(ErrorCode, _values(query, "error_code"), "error_code"),
        build_ids=tuple(map(parse_id, _values(query, "build"))),
        parent_id=parse_id(query["parent"]) if query.get("parent") else None,
        metadata=_metadata(_values(query, "metadata")),
    )


def parse_page(query: QueryParams) -> PageRequest:
    """Raises ApiError (400) for a size that is not one, or both directions at once."""
    first, last = _size(query, "first"), _size(query, "last")
    after, before = query.get("after") or None, query.get("before") or None
    if (first or after) and (last or before):
        raise bad_request("a page goes one way: first and after, or last and before")
    if last or before:
        return PageRequest(last=last or DEFAULT_PAGE, before=before)
    return PageRequest(first=first or DEFAULT_PAGE, after=after)


def refuse_unknown(query: QueryParams, known: Iterable[str]) -> None:
    """Raises ApiError (400) for a key that means nothing here: a mistyped filter must not list everything."""
    allowed = tuple(known)
    for key in query:
        if key not in allowed:
            raise bad_request(f"{key[:40]!r} is not a filter: there are {', '.join(allowed)}")


def whole_number(text: str, name: str, low: int, high: int) -> int:
    """Raises ApiError (400) when ``text`` is not a whole number from ``low`` to ``high``."""
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and low <= int(text) <= high):
        raise bad_request(f"{name} is a whole number from {low} to {high}, not {text[:40]!r}")
    return int(text)


def log_position(query: QueryParams) -> int:
    """The ``seq`` of the line after which a log goes on. Raises ApiError (400)."""
    return whole_number(query.get("after", "0"), "after", 0, _LARGEST_SEQ)


def flag(query: QueryParams, name: str) -> bool:
    return query.get(name, "") not in ("", "0", "false")


def _size(query: QueryParams, name: str) -> int | None:
    text = query.get(name)
    return whole_number(text, name, 1, LARGEST_PAGE) if text else None


def _values(query: QueryParams, name: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in query.getlist(name) if value.strip())


def _members(kind: type[E], values: tuple[str, ...], name: str) -> tuple[E, ...]:
    try:
        return tuple(map(kind, values))
    except ValueError:
        wrong = next(value for value in values if value not in {member.value for member in kind})
        known = ", ".join(str(member.value) for member in kind)
        raise bad_request(f"{wrong[:40]!r} is not a {name}: there are {known}") from None


def _metadata(pairs: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    values: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise bad_request(f"metadata is written key=value, not {pair[:80]!r}")
        values.setdefault(key, []).append(value)
    return tuple((key, tuple(alternatives)) for key, alternatives in values.items())
