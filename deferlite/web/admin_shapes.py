"""The admin API's JSON: the structs of model/, moments as RFC 3339, secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from deferlite.model.clock import to_rfc3339
from deferlite.model.environment import Environment, EnvironmentConfig
from deferlite.model.execution import State
from deferlite.sandbox.git import without_secrets

MASK = "•••"
_MOMENTS = frozenset(
    {
        "created_at",
        "updated_at",
        "started_at",
        "finished_at",
        "scheduled_at",
        "discard_at",
        "next_cron_at",
        "last_cron_at",
        "revoked_at",
        "cron_tick",
        "at",
    }
)


def answer(value: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )


def shape(struct: msgspec.Struct) -> dict[str, Any]:
    """The struct as a dict for the wire."""
    shaped: dict[str, Any] = _moments(msgspec.to_builtins(struct))
    return shaped


def _moments(value: Any, key: str = "") -> Any:
    if key in _MOMENTS and isinstance(value, int):
        return to_rfc3339(value)
    if isinstance(value, dict):
        return {name: _moments(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_moments(item) for item in value]
    return value


def environment_shape(environment: Environment) -> dict[str, Any]:
    config = environment.config
    return shape(msgspec.structs.replace(environment, config=None)) | {"config": masked(config) if config else None}


def masked(config: EnvironmentConfig) -> dict[str, Any]:
    """The settings without a secret: values of variables, tokens, channels' addresses, passwords of other addresses."""
    shown: dict[str, Any] = _leaves(msgspec.to_builtins(config), without_secrets)
    shown["token"] = MASK if config.token else None
    shown["env"] = dict.fromkeys(config.env, MASK)
    shown["notify"] = _leaves(config.notify, lambda _: MASK)
    if config.preview:
        shown["preview"]["env"] = dict.fromkeys(config.preview.env, MASK)
    shown["git"]["token"] = MASK if config.git.token else None
    if config.hooks:
        shown["hooks"]["secret"] = MASK
    return shown


def _leaves(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every text in it changed."""
    if isinstance(value, Mapping):
        return {key: _leaves(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_leaves(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def counts(by_state: Mapping[State, int] | None) -> dict[str, int]:
    """Counters without the zeros."""
    return {state.value: number for state, number in (by_state or {}).items() if number}
