"""The records the SDK hands out and takes: executions, pages of them, and what an enqueue asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Generic, Literal, TypeVar

from deferlite.sdk.options import CallOptions, Definition

T = TypeVar("T")

State = Literal["created", "started", "aborting", "succeed", "failed", "cancelled", "aborted", "discarded"]
Query = Mapping[str, Any]
"""Which executions to list: ``page`` and ``filters`` in the words of the HTTP API."""

_TERMINAL = frozenset({"succeed", "failed", "cancelled", "aborted", "discarded"})


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
        return self.state in _TERMINAL

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Execution:
        """The execution object of the HTTP API; fields this SDK does not know are left out."""
        known: Any = {name: data[name] for name in cls.__dataclass_fields__ if data.get(name) is not None}
        known |= {name: parse_time(text) for name, text in known.items() if name.endswith("_at")}
        return cls(**known)


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
class NewExecution:
    """What one enqueue asks for; the moments are those that its options came to."""

    definition: Definition
    arguments: tuple[Any, ...]
    keyword_arguments: Mapping[str, Any]
    options: CallOptions
    scheduled_at: datetime | None = None
    discard_at: datetime | None = None
    awaited: bool = False
    """The caller waits for the result, and hears of a failure that way."""


def parse_time(text: str) -> datetime:
    """A moment as the server writes it. Before Python 3.11 ``fromisoformat`` knows no "Z"."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def format_time(moment: datetime) -> str:
    """RFC 3339; a datetime without a zone is local time."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
