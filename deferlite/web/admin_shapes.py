"""The admin API's JSON: the structs of model/, moments as RFC 3339, secrets masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from starlette.responses import Response

from deferlite.model.clock import to_rfc3339
from deferlite.model.environment import Environment, EnvironmentConfig
from deferlite.model.execution import State

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
    """The settings without a secret: values of variables, the token, channels' addresses, a repository's password."""
    shown: dict[str, Any] = msgspec.to_builtins(config)
    shown["repository"] = without_password(config.repository)
    shown["token"] = MASK if config.token else None
    shown["env"] = dict.fromkeys(config.env, MASK)
    shown["notify"] = _mask_leaves(config.notify)
    if config.preview:
        shown["preview"]["env"] = dict.fromkeys(config.preview.env, MASK)
    shown["git"]["token"] = MASK if config.git.token else None
    if config.hooks:
        shown["hooks"]["secret"] = MASK
    return shown


def _mask_leaves(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _mask_leaves(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask_leaves(item) for item in value]
    return MASK if isinstance(value, str) else value


def without_password(repository: str) -> str:
    """A repository's address with user and password masked."""
    if "://" not in repository:
        return repository
    try:
        parts = urlsplit(repository)
    except ValueError:
        return MASK
    _, at, host = parts.netloc.rpartition("@")
    keep = not at or parts.scheme in ("ssh", "git+ssh")
    return repository if keep else urlunsplit(parts._replace(netloc=f"{MASK}@{host}"))


def counts(by_state: Mapping[State, int] | None) -> dict[str, int]:
    """Counters without the zeros."""
    return {state.value: number for state, number in (by_state or {}).items() if number}
