"""Environments and the schema of their files (DESIGN: An environment file)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from deferlite.model.function import DEFAULT_MAX_DURATION, FunctionOptions
from deferlite.sdk.retry import RetryPolicy, parse_retry

REMOTE_SCHEMES = ("https", "http", "ssh", "git", "file")
"""Transports of git that deferlite clones by; ``ext::`` and its like would run a command."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP = re.compile(r"(?:[A-Za-z0-9_.-]+@)?[A-Za-z0-9_.-]+:(?!:)[^\\]")


class BuildSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    runtime: Literal["python", "node"] | None = None
    python: str | None = None
    install: str | None = None
    prebuild: str | None = None
    functions: tuple[str, ...] = ()
    overrides: dict[str, str] = {}
    builder: str | None = None
    """Another deferlite that makes the builds of this environment: a version, or a path."""
    breaking: Literal["warn", "hold", "ignore"] = "warn"
    """What becomes of a build that breaks executions which wait: goes live and says so, waits, goes live."""
    timeout: float = 1800.0
    """Seconds."""


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    concurrency: int | None = 10
    max_duration: float = DEFAULT_MAX_DURATION
    memory: int = 512 * 1024 * 1024
    """Bytes."""
    isolation: Literal["fresh", "reuse"] = "fresh"
    reuse: int = 1000
    network: bool = True
    workdir: Literal["project", "scratch"] | None = None
    """None: project for Python, scratch for Node."""
    mounts: tuple[str, ...] = ()
    cron: bool = True


class PreviewSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[preview]``: a copy of the environment for every branch that one of ``branches`` (shell patterns) matches."""

    branches: tuple[str, ...]
    expire: float = 7 * 86400.0
    """Seconds without a commit."""
    limit: int = 20
    env: dict[str, str | dict[str, str]] = {}
    """On top of the environment's own."""
    cron: bool = False
    concurrency: int | None = None
    """This and the next two: None is as in the environment itself."""
    max_duration: float | None = None
    memory: int | None = None


class GitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[git]``: how a remote repository is reached. Nothing of it is ever on a command line or in a log."""

    key: str | None = None
    """File of a private key, for ssh."""
    known_hosts: str | None = None
    """File of host keys, for ssh, in place of the server's user's own. Host keys are always checked."""
    username: str = "git"
    token: str | dict[str, str] | None = None
    """Password of ``username`` over https: text, or ``{"file": path}``."""
    submodules: bool = True


class HookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[hooks]``: who may say that something was pushed, at POST /hooks/push/ENV."""

    secret: str | dict[str, str]
    """Text, or ``{"file": path}``: the ``token`` of the address, or the key of GitHub's signature."""


class EnvironmentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A valid environment file. Durations are seconds, sizes bytes. ``env`` values: text, or ``{"file": path}``."""

    repository: str
    branch: str | None = None
    directory: str = ""
    worktree: bool = False
    poll: float = 30.0
    token: str | None = None
    """The file's own API token; the store keeps its hash alone, and None here."""
    build: BuildSettings = BuildSettings()
    run: RunSettings = RunSettings()
    functions: dict[str, dict[str, Any]] = {}
    """Settings for one function, as ``FunctionOptions`` fields; they win over the code."""
    env: dict[str, str | dict[str, str]] = {}
    preview: PreviewSettings | None = None
    git: GitSettings = GitSettings()
    hooks: HookSettings | None = None
    notify: dict[str, Any] = {}
    retention_executions: float = 30 * 86400.0
    retention_builds: int = 5


Ended = Literal["deleted", "merged", "expired", "limit", "unwanted"]
"""Why a preview was retired; unwanted: nobody asks for it any more, since its environment or [preview] has changed."""
WHY_ENDED: Mapping[Ended, str] = MappingProxyType(
    {
        "deleted": "its branch is deleted",
        "merged": "its branch is merged",
        "expired": "its branch has had no commit for too long",
        "limit": "there are more branches than [preview] limit allows",
        "unwanted": "nothing asks for it any more",
    }
)


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a preview environment is a preview of."""

    of: str
    """The environment whose ``[preview]`` asked for it."""
    branch: str
    ahead: bool = False
    """It has had commits that its environment's branch had not: once it has them, it is merged away."""
    ended: Ended | None = None
    """Why it was retired; None while it is active."""
    commit: str | None = None
    """Where its branch stood when it was retired, if that was known."""


class EnvironmentState(str, Enum):
    ACTIVE = "active"
    RETIRED = "retired"

    __str__ = str.__str__


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment as stored: its last good settings, and what is wrong with its file now."""

    name: str
    state: EnvironmentState
    config: EnvironmentConfig | None
    """None: its file has never been good."""
    error: str | None
    """The faults of the file as it stands, one a line; None while it is good."""
    source: str
    """The file it comes from."""
    live_build_id: str | None
    pinned: bool
    """A rollback holds it on its live build until the next commit."""
    created_at: int
    updated_at: int
    problem: str | None = None
    """What is wrong with its repository or branch now, as the watcher sees it; None while it is good."""
    preview: Preview | None = None
    note: str | None = None
    """What is to be known of it that is no fault, such as branches that [preview] has no place for."""


def overlay(options: FunctionOptions, settings: dict[str, Any]) -> FunctionOptions:
    """``options`` of the code with the environment file's ``[functions.NAME]`` put on top."""
    if not settings:
        return options
    changes = dict(settings)
    if "retry" in changes:
        # Read back from the store it is a dict.
        retry = changes["retry"]
        changes["retry"] = retry if isinstance(retry, RetryPolicy) else parse_retry(retry)
    return msgspec.structs.replace(options, **changes)


def is_remote(repository: str) -> bool:
    """Whether ``repository`` is an address (``https://…``, ``host:path``) and not a folder of this machine."""
    return _SCHEME.match(repository) is not None or (
        not repository.startswith(("/", ".", "~")) and _SCP.match(repository) is not None
    )


def build_inputs(config: EnvironmentConfig) -> tuple[object, ...]:
    """What a build's result depends on besides the commit: other settings take effect without a build."""
    build = msgspec.structs.replace(config.build, timeout=0.0, breaking="warn")
    source = config.repository, config.branch, config.directory, config.worktree, config.git.submodules
    return *source, build, config.env
