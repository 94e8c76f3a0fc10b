"""The records the SDK hands out and takes: executions, pages of them, and what an enqueue asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Generic, Literal, TypeVar

from deferlite.sdk.options import Definition

T = TypeVar("T")

State = Literal["created", "started", "aborting", "succeed", "failed", "cancelled", "aborted", "discarded"]

TERMINAL = frozenset({"succeed", "failed", "cancelled", "aborted", "discarded"})


@dataclass(frozen=True)
class Execution:
    """One call of a background function, as it was when the server was asked. Times are aware, in UTC."""

    id: str
    state: State
    function_name: str
    function_id: str
    scheduled_at: datetime
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    """How many attempts have started; in a list of attempts, the number of this one."""
    error_code: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    parent_id: str | None = None
    rerun_of: str | None = None
    build_id: str | None = None
    executed_by: str | None = None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Execution:
        """The execution object of the HTTP API; fields this SDK does not know are left out."""
        moments: dict[str, Any] = {key: parse_time(data.get(key)) for key in _MOMENTS}
        others = {key: data[key] for key in _OTHERS if data.get(key) is not None}
        return cls(**moments, **others)


_MOMENTS = ("scheduled_at", "created_at", "updated_at", "started_at", "finished_at")
_OTHERS = (
    *("id", "state", "function_name", "function_id"),
    *("attempt", "error_code", "metadata", "parent_id", "rerun_of", "build_id", "executed_by"),
)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list, newest first. Iterate it; go on with ``after=page.end_cursor``."""

    items: tuple[T, ...]
    has_next_page: bool = False
    has_prev_page: bool = False
    start_cursor: str | None = None
    end_cursor: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Query:
    """Which executions to list. Values of one field are alternatives; different fields narrow."""

    states: tuple[str, ...] = ()
    function_ids: tuple[str, ...] = ()
    error_codes: tuple[str, ...] = ()
    scheduled_from: datetime | None = None
    scheduled_to: datetime | None = None
    started_from: datetime | None = None
    started_to: datetime | None = None
    executed_by: str | None = None
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None


@dataclass(frozen=True)
class NewExecution:
    """What one enqueue asks for. Arguments are JSON values already."""

    definition: Definition
    arguments: tuple[Any, ...]
    keyword_arguments: Mapping[str, Any]
    scheduled_at: datetime | None = None
    discard_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    awaited: bool = False
    """The caller waits for the result, and hears of a failure that way."""


@dataclass(frozen=True)
class Ended:
    """An execution that has come to its end; ``value`` is the result, or the error object of a failed one."""

    state: str
    value: Any = None
    execution: Execution | None = None
    """None where asking for it would have cost another request and nobody needs it."""


@dataclass(frozen=True)
class CurrentExecution:
    """The execution this code runs in."""

    id: str
    function_name: str
    attempt: int
    environment: str = ""
    build_id: str = ""
    commit: str = ""


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 moment in UTC, as the API writes it; None stays None."""
    if text is None:
        return None
    # Before 3.11 fromisoformat knows no "Z" and only 3 or 6 digits after the point.
    body, dot, rest = text.replace("Z", "+00:00").replace("z", "+00:00").partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        body += "." + rest[:digits][:6].ljust(6, "0") + rest[digits:]
    return datetime.fromisoformat(body).astimezone(timezone.utc)


def format_time(moment: datetime | None) -> str | None:
    """RFC 3339 with microseconds and ``Z``; a datetime without a zone is local time."""
    if moment is None:
        return None
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
