"""Rows as the model's words: column lists, and the structs made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from deferlite.model.build import Build, BuildState, BuildStep, Trigger
from deferlite.model.changes import Changes, Finding
from deferlite.model.environment import Environment, EnvironmentConfig, EnvironmentState, Preview
from deferlite.model.execution import Attempt, Claimed, ErrorCode, Execution, LogLine, State
from deferlite.model.function import Function, FunctionOptions
from deferlite.store.queries import TokenInfo

Row = Sequence[Any]


def _columns(kind: type[msgspec.Struct]) -> str:
    return ", ".join(kind.__struct_fields__)


EXECUTION_COLUMNS = _columns(Execution)
ATTEMPT_COLUMNS = _columns(Attempt)
CLAIMED_COLUMNS = _columns(Claimed)
ENVIRONMENT_COLUMNS = _columns(Environment)
FUNCTION_COLUMNS = _columns(Function)
TOKEN_COLUMNS = _columns(TokenInfo)
HELD = (
    "(held AND NOT EXISTS (SELECT 1 FROM builds AS newer WHERE newer.environment = builds.environment "
    "AND newer.number > builds.number AND newer.state = 'succeed' AND NOT newer.held))"
)
"""Whether a build waits to be promoted: a good one after it has made that pointless."""
BUILD_COLUMNS = (
    'builds.id, builds.environment, number, builds.state, build_trigger, "commit", branch, message, '
    "builds.created_at, builds.started_at, builds.finished_at, builds.error, "
    "EXISTS (SELECT 1 FROM environments WHERE live_build_id = builds.id AND name = builds.environment), "
    "(SELECT json_group_array(json_array(state, started_at, finished_at)) FROM "
    "(SELECT * FROM build_steps WHERE build_id = builds.id ORDER BY position)), "
    f"{HELD}, builder, changes, findings"
)
"""In the order of ``Build``'s fields."""

decode_config = msgspec.json.Decoder(EnvironmentConfig).decode
decode_options = msgspec.json.Decoder(FunctionOptions).decode
_preview = msgspec.json.Decoder(Preview)
_changes = msgspec.json.Decoder(Changes)
_findings = msgspec.json.Decoder(tuple[Finding, ...])
_metadata = msgspec.json.Decoder(dict[str, str])
_steps = msgspec.json.Decoder(list[tuple[BuildState, int, int | None]])


def to_execution(row: Row) -> Execution:
    fields = _fields(Execution, row)
    fields["state"] = State(fields["state"])
    fields["metadata"] = decode_metadata(fields["metadata"])
    if fields["error_code"] is not None:
        fields["error_code"] = ErrorCode(fields["error_code"])
    return Execution(**fields)


def to_attempt(row: Row) -> Attempt:
    fields = _fields(Attempt, row)
    fields["state"] = State(fields["state"])
    fields["interrupted"] = bool(fields["interrupted"])
    if fields["error_code"] is not None:
        fields["error_code"] = ErrorCode(fields["error_code"])
    return Attempt(**fields)


def to_claimed(row: Row) -> Claimed:
    return Claimed(**_fields(Claimed, row))


def to_environment(row: Row) -> Environment:
    fields = _fields(Environment, row)
    fields["state"] = EnvironmentState(fields["state"])
    fields["config"] = None if fields["config"] is None else decode_config(fields["config"])
    fields["pinned"] = bool(fields["pinned"])
    fields["preview"] = None if fields["preview"] is None else _preview.decode(fields["preview"])
    return Environment(**fields)


def to_function(row: Row) -> Function:
    fields = _fields(Function, row)
    fields["options"] = decode_options(fields["options"])
    fields["active"] = bool(fields["active"])
    return Function(**fields)


def to_build(row: Row) -> Build:
    fields = _fields(Build, row)
    fields["state"] = BuildState(fields["state"])
    fields["trigger"] = Trigger(fields["trigger"])
    fields["live"] = bool(fields["live"])
    fields["steps"] = tuple(BuildStep(*step) for step in _steps.decode(fields["steps"]))
    fields["held"] = bool(fields["held"])
    fields["changes"] = None if fields["changes"] is None else _changes.decode(fields["changes"])
    fields["findings"] = () if fields["findings"] == "[]" else _findings.decode(fields["findings"])
    return Build(**fields)


def to_token(row: Row) -> TokenInfo:
    return TokenInfo(**_fields(TokenInfo, row))


def to_log_line(row: Row) -> LogLine:
    return LogLine(*row)


def decode_metadata(text: str) -> dict[str, str]:
    return {} if text == "{}" else _metadata.decode(text)


def _fields(kind: type[msgspec.Struct], row: Row) -> dict[str, Any]:
    return dict(zip(kind.__struct_fields__, row, strict=True))
