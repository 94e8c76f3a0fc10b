"""What lists are asked for: filters and pages of executions and attempts (DEFER-PROTOCOL: HTTP API v2)."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from deferlite.model.execution import ErrorCode, State

T = TypeVar("T")

DEFAULT_PAGE = 50
LARGEST_PAGE = 1000


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Moments, both ends included; None is open."""

    start: int | None = None
    end: int | None = None


class ExecutionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Values within one field are alternatives; fields narrow. Empty: no condition."""

    environment: str | None = None
    states: tuple[State, ...] = ()
    function_ids: tuple[str, ...] = ()
    function_names: tuple[str, ...] = ()
    error_codes: tuple[ErrorCode, ...] = ()
    scheduled_at: Span = Span()
    started_at: Span = Span()
    build_ids: tuple[str, ...] = ()
    executed_by: tuple[str, ...] = ()
    parent_id: str | None = None
    metadata: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Key and its alternative values; several keys must all match."""


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A keyset page, newest first: ``first`` rows after a cursor, or ``last`` rows before one."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    items: tuple[T, ...]
    has_next_page: bool
    has_prev_page: bool
    start_cursor: str | None
    end_cursor: str | None


class Want(msgspec.Struct, frozen=True):
    """So many executions of a function may be started now."""

    environment: str
    function_id: str
    slots: int


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An API token as lists show it: the token itself is shown once, when it is made."""

    id: str
    environment: str
    name: str
    created_at: int
    revoked_at: int | None
