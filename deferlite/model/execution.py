"""Executions, attempts and the one table of their transitions (DEFER-PROTOCOL: Execution states).

Every moment is an integer: microseconds since 1970 in UTC. Every duration is a float: seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

import msgspec


class State(str, Enum):
    """The state of an execution."""

    CREATED = "created"
    STARTED = "started"
    ABORTING = "aborting"
    SUCCEED = "succeed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABORTED = "aborted"
    DISCARDED = "discarded"

    __str__ = str.__str__


TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        # started -> created: a retry is left, or the attempt was interrupted and goes back into the queue.
        State.CREATED: frozenset({State.STARTED, State.CANCELLED, State.DISCARDED, State.FAILED}),
        State.STARTED: frozenset({State.SUCCEED, State.FAILED, State.ABORTING, State.CREATED}),
        State.ABORTING: frozenset({State.ABORTED}),
        State.SUCCEED: frozenset(),
        State.FAILED: frozenset(),
        State.CANCELLED: frozenset(),
        State.ABORTED: frozenset(),
        State.DISCARDED: frozenset(),
    }
)
"""What each state may become. created -> failed: its function or build is gone, so it can never start."""

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)


class ErrorCode(str, Enum):
    """Why an execution failed (DEFER-PROTOCOL: Error codes)."""

    INTERNAL = "ER0000"
    TIMEOUT = "ER0001"
    OUT_OF_MEMORY = "ER0002"
    NON_ZERO_EXIT = "ER0003"

    __str__ = str.__str__


MAX_INTERRUPTIONS = 3
"""An execution cut off this often by the death of the server fails (DESIGN: What always holds, 2)."""


class ErrorObject(msgspec.Struct, frozen=True):
    """The result of a failed execution."""

    name: str
    message: str
    stack: str = ""


class NewExecution(msgspec.Struct, frozen=True, kw_only=True):
    """What an enqueue asks for. ``arguments`` and ``keyword_arguments`` are JSON texts (array, object)."""

    function_name: str
    arguments: str = "[]"
    keyword_arguments: str = "{}"
    scheduled_at: int | None = None
    discard_at: int | None = None
    metadata: dict[str, str] = {}
    priority: int = 0
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    parent_id: str | None = None


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution as lists and pages show it; arguments, result and logs are read on their own."""

    id: str
    environment: str
    function_id: str
    function_name: str
    state: State
    priority: int
    scheduled_at: int
    discard_at: int | None
    created_at: int
    updated_at: int
    started_at: int | None
    """Start of the newest attempt."""
    finished_at: int | None
    attempt: int
    """How many attempts have started; 0 before the first."""
    retries: int
    """How many of those were retries that the function's policy counts."""
    interruptions: int
    error_code: ErrorCode | None
    metadata: dict[str, str]
    build_id: str | None
    parent_id: str | None
    rerun_of: str | None
    cron_tick: int | None
    """The moment of the cron expression this execution stands for."""
    idempotency_key: str | None
    concurrency_key: str | None
    executed_by: str = "api"
    """Who enqueued it: api, cron, an execution, a rerun, or a person's name for the console."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at running an execution."""

    execution_id: str
    number: int
    state: State
    build_id: str
    started_at: int
    finished_at: int | None
    error_code: ErrorCode | None
    interrupted: bool
    """Cut off by a crash or a stop of the server, not by the function."""
    sandbox: str
    """The level in force when it ran: bubblewrap, landlock or process."""
    cpu_time: float | None
    """Seconds of CPU of the process and the children it waited for."""
    memory_peak: int | None
    """Bytes."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that the claim has just moved to started: all that is needed to run it."""

    id: str
    environment: str
    function_id: str
    function_name: str
    attempt: int
    build_id: str
    arguments: str
    keyword_arguments: str
    parent_id: str | None
    concurrency_key: str | None
    started_at: int


class Ending(str, Enum):
    """How an attempt ended, as the executor saw it."""

    RETURNED = "returned"
    RAISED = "raised"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    ABORTED = "aborted"
    INTERNAL = "internal"
    """The runner failed before or while the function ran, and not by the function's doing."""
    INTERRUPTED = "interrupted"
    """Stopped because the server stops: goes back into the queue and counts as nothing."""

    __str__ = str.__str__


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt. ``result`` is JSON text: the value, or an ``ErrorObject``."""

    ending: Ending
    result: str
    cpu_time: float | None = None
    memory_peak: int | None = None


ERROR_CODES: Mapping[Ending, ErrorCode] = MappingProxyType(
    {
        Ending.RAISED: ErrorCode.NON_ZERO_EXIT,
        Ending.TIMED_OUT: ErrorCode.TIMEOUT,
        Ending.OUT_OF_MEMORY: ErrorCode.OUT_OF_MEMORY,
        Ending.INTERNAL: ErrorCode.INTERNAL,
    }
)


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """One line of output. ``stream`` is stdout, stderr, logging or system (deferlite's own words)."""

    time: int
    stream: str
    text: str
    level: str = ""


def error_result(name: str, message: str, stack: str = "") -> str:
    """The JSON text of an ``ErrorObject``."""
    return encode_json(ErrorObject(name, message, stack))


def encode_json(value: Any) -> str:
    """``value`` as JSON text."""
    return msgspec.json.encode(value).decode()
