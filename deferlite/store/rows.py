"""Rows as the model's words: column lists, and the structs made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from deferlite.model.build import Build, BuildState, BuildStep, Trigger
from deferlite.model.environment import Environment, EnvironmentConfig, EnvironmentState
from deferlite.model.execution import Attempt, Claimed, ErrorCode, Execution, LogLine, State
from deferlite.model.function import Function, FunctionOptions
from deferlite.store.queries import TokenInfo

Row = Sequence[Any]

_EXECUTION = Execution.__struct_fields__
_ATTEMPT = Attempt.__struct_fields__
_CLAIMED = Claimed.__struct_fields__
_ENVIRONMENT = Environment.__struct_fields__
_FUNCTION = Function.__struct_fields__
_TOKEN = TokenInfo.__struct_fields__

EXECUTION_COLUMNS = ", ".join(_EXECUTION)
ATTEMPT_COLUMNS = ", ".join(_ATTEMPT)
CLAIMED_COLUMNS = ", ".join(_CLAIMED)
ENVIRONMENT_COLUMNS = ", ".join(_ENVIRONMENT)
FUNCTION_COLUMNS = ", ".join(_FUNCTION)
TOKEN_COLUMNS = ", ".join(_TOKEN)
BUILD_COLUMNS = (
    'builds.id, builds.environment, number, builds.state, build_trigger, "commit", branch, message, '
    "builds.created_at, builds.started_at, builds.finished_at, builds.error, "
    "EXISTS (SELECT 1 FROM environments WHERE live_build_id = builds.id AND name = builds.environment), "
    "(SELECT json_group_array(json_array(state, started_at, finished_at)) FROM "
    "(SELECT * FROM build_steps WHERE build_id = builds.id ORDER BY position))"
)
"""In the order of ``Build``'s fields."""

_metadata = msgspec.json.Decoder(dict[str, str])
_config = msgspec.json.Decoder(EnvironmentConfig)
_options = msgspec.json.Decoder(FunctionOptions)
_steps = msgspec.json.Decoder(list[tuple[BuildState, int, int | None]])


def to_execution(row: Row) -> Execution:
    fields = dict(zip(_EXECUTION, row, strict=True))
    fields["state"] = State(fields["state"])
    fields["metadata"] = decode_metadata(fields["metadata"])
    if fields["error_code"] is not None:
        fields["error_code"] = ErrorCode(fields["error_code"])
    return Execution(**fields)


def to_attempt(row: Row) -> Attempt:
    fields = dict(zip(_ATTEMPT, row, strict=True))
    fields["state"] = State(fields["state"])
    fields["interrupted"] = bool(fields["interrupted"])
    if fields["error_code"] is not None:
        fields["error_code"] = ErrorCode(fields["error_code"])
    return Attempt(**fields)


def to_claimed(row: Row) -> Claimed:
    return Claimed(**dict(zip(_CLAIMED, row, strict=True)))


def to_environment(row: Row) -> Environment:
    fields = dict(zip(_ENVIRONMENT, row, strict=True))
    fields["state"] = EnvironmentState(fields["state"])
    fields["config"] = None if fields["config"] is None else decode_config(fields["config"])
    fields["pinned"] = bool(fields["pinned"])
    return Environment(**fields)


def to_function(row: Row) -> Function:
    fields = dict(zip(_FUNCTION, row, strict=True))
    fields["options"] = decode_options(fields["options"])
    fields["active"] = bool(fields["active"])
    return Function(**fields)


def to_build(row: Row) -> Build:
    fields = dict(zip(Build.__struct_fields__, row, strict=True))
    fields["state"] = BuildState(fields["state"])
    fields["trigger"] = Trigger(fields["trigger"])
    fields["live"] = bool(fields["live"])
    fields["steps"] = tuple(BuildStep(*step) for step in _steps.decode(fields["steps"]))
    return Build(**fields)


def to_token(row: Row) -> TokenInfo:
    return TokenInfo(**dict(zip(_TOKEN, row, strict=True)))


def to_log_line(row: Row) -> LogLine:
    return LogLine(*row)


def decode_metadata(text: str) -> dict[str, str]:
    return {} if text == "{}" else _metadata.decode(text)


def decode_config(text: str) -> EnvironmentConfig:
    return _config.decode(text)


def decode_options(text: str) -> FunctionOptions:
    return _options.decode(text)
