"""Builds and their states (DEFER-PROTOCOL: Build states)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import msgspec

from deferlite.model.changes import Changes, Finding


class BuildState(str, Enum):
    CREATED = "created"
    STARTED = "started"
    CLONING = "cloning"
    INSTALLING = "installing"
    GENERATING = "generating"
    """Only with a prebuild command."""
    COMPILING = "compiling"
    PUBLISHING = "publishing"
    SUCCEED = "succeed"
    FAILED = "failed"

    __str__ = str.__str__


BUILD_TRANSITIONS: Mapping[BuildState, frozenset[BuildState]] = MappingProxyType(
    {
        BuildState.CREATED: frozenset({BuildState.STARTED, BuildState.FAILED}),
        BuildState.STARTED: frozenset({BuildState.CLONING, BuildState.FAILED}),
        BuildState.CLONING: frozenset({BuildState.INSTALLING, BuildState.FAILED}),
        BuildState.INSTALLING: frozenset({BuildState.GENERATING, BuildState.COMPILING, BuildState.FAILED}),
        BuildState.GENERATING: frozenset({BuildState.COMPILING, BuildState.FAILED}),
        BuildState.COMPILING: frozenset({BuildState.PUBLISHING, BuildState.FAILED}),
        BuildState.PUBLISHING: frozenset({BuildState.SUCCEED, BuildState.FAILED}),
        BuildState.SUCCEED: frozenset(),
        BuildState.FAILED: frozenset(),
    }
)
"""What each state may become. created and started -> failed: overtaken by a newer commit, or cut off by a crash."""


CUT_OFF = "cut off by the end of the server; the commit is built again"
"""The error of a build that a crash or a stop interrupted: the watcher asks for another one."""


CANCELLED = "cancelled"
"""The error of a build that somebody cancelled."""


OVERTAKEN = "overtaken by build "
"""The error of a build that a newer one made needless begins so."""


RETIRED = "the environment was retired before this build had ended"
"""The error of a build whose preview went away: if it comes back, the watcher asks for another one."""


class Trigger(str, Enum):
    """Why a build was asked for."""

    NEW = "new environment"
    COMMIT = "commit"
    SETTINGS = "settings"
    WORKTREE = "worktree"
    MANUAL = "manual"

    __str__ = str.__str__


class BuildStep(msgspec.Struct, frozen=True):
    """A state that a build has been through, and for how long."""

    state: BuildState
    started_at: int
    finished_at: int | None = None


class Build(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    environment: str
    number: int
    """1, 2, 3 … within the environment, for people."""
    state: BuildState
    trigger: Trigger
    commit: str | None
    """Full SHA; None with ``worktree = true`` in a repository without commits."""
    branch: str | None
    message: str
    """The commit's subject line."""
    created_at: int
    started_at: int | None
    finished_at: int | None
    error: str | None
    """What to mend, for a failed one."""
    live: bool
    steps: tuple[BuildStep, ...] = ()
    held: bool = False
    """A good build that would break executions which wait: it is not live until it is promoted."""
    builder: str = ""
    """The version of deferlite's builder that made it; empty before it was made."""
    changes: Changes | None = None
    """What it changed of the build that was live when it was made; None before it was made, and for the first one."""
    findings: tuple[Finding, ...] = ()
    """What it breaks of the executions that waited when it was made, or last went live."""


def overtaken_by(number: int, commit: str) -> str:
    """The error of a build that build ``number`` of ``commit`` made needless."""
    return f"{OVERTAKEN}{number} ({commit[:12]})"


def build_word(state: str, live: bool, held: bool, error: str | None) -> str:
    """What became of a build, in one word."""
    if live or held:
        return "live" if live else "held"
    if error is not None and error.startswith(OVERTAKEN):
        return "overtaken"
    return "cancelled" if error == CANCELLED else state


def word_of(build: Build) -> str:
    return build_word(build.state.value, build.live, build.held, build.error)
