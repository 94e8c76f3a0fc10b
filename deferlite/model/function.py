"""Functions as the builder finds them, and a build's manifest."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from deferlite.sdk.retry import RetryPolicy

DEFAULT_MAX_DURATION = 1800.0
"""Seconds an attempt may run where neither the function nor the environment says."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One parameter; ``kind`` as ``inspect.Parameter`` names it, in lower case."""

    name: str
    kind: Literal["positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword"]
    annotation: str | None = None
    default: str | None = None
    """The default's ``repr``; None where there is none."""


class FunctionOptions(msgspec.Struct, frozen=True, kw_only=True):
    retry: RetryPolicy = RetryPolicy(max_attempts=0)
    concurrency: int | None = None
    max_duration: float | None = None
    """Seconds; None: the environment's ``max_duration``."""
    max_concurrency_action: Literal["keep", "cancel"] = "keep"
    cron: str | None = None
    timezone: str = "UTC"


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A background function of a build."""

    name: str
    module: str
    attribute: str
    is_async: bool
    parameters: tuple[Parameter, ...] = ()
    options: FunctionOptions = FunctionOptions()
    aliases: tuple[str, ...] = ()
    """Its former names: executions under these are its own."""
    doc: str = ""
    file: str = ""
    """Path inside the project, for messages."""
    line: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a build publishes. ``launch`` is the runtime's own: how its runner is started."""

    version: Literal[1] = 1
    runtime: str
    interpreter: str
    """Name and version, such as ``CPython 3.11.7``."""
    modules: tuple[str, ...]
    functions: tuple[FunctionSpec, ...]
    launch: dict[str, Any] = {}


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function as the queue knows it: options are the code's, overlaid with the environment file's."""

    id: str
    environment: str
    name: str
    options: FunctionOptions
    active: bool
    """Part of the live build."""
    next_cron_at: int | None = None
    last_cron_at: int | None = None
