"""What happens, as values. Published after the commit; events are hints, the store is the truth."""

from __future__ import annotations

import msgspec

from deferlite.model.build import BuildState
from deferlite.model.execution import State


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events; ``environment`` is the one concerned, empty for none."""

    environment: str = ""


class ExecutionsEnqueued(Event, frozen=True, kw_only=True):
    """New rows in state created, or rows whose moment was moved: the dispatcher looks again."""

    function_ids: frozenset[str]
    due_at: int | None = None
    """The earliest moment at which a timer has to look at them (delay or discard); None: there is none."""


class ExecutionChanged(Event, frozen=True, kw_only=True):
    execution_id: str
    function_name: str
    state: State
    attempt: int = 0


class ExecutionLogged(Event, frozen=True, kw_only=True):
    execution_id: str
    attempt: int


class AbortRequested(Event, frozen=True, kw_only=True):
    """The execution is in state aborting: end its process."""

    execution_id: str


class BuildRequested(Event, frozen=True, kw_only=True):
    build_id: str


class BuildCancelRequested(Event, frozen=True, kw_only=True):
    """Somebody wants the running build ended."""

    build_id: str


class RepositoryPushed(Event, frozen=True, kw_only=True):
    """Somebody says that commits were pushed to the environment's repository: the watcher looks at it now."""


class BuildChanged(Event, frozen=True, kw_only=True):
    build_id: str
    state: BuildState


class BuildLogged(Event, frozen=True, kw_only=True):
    build_id: str


class BuildPublished(Event, frozen=True, kw_only=True):
    """The live build of the environment is now ``build_id`` (a new build, or a rollback)."""

    build_id: str


class EnvironmentChanged(Event, frozen=True, kw_only=True):
    """Created, edited, broken, repaired or retired: read it again."""


class ParentParked(Event, frozen=True, kw_only=True):
    """A running execution waits for a child of its own: its slot is free meanwhile."""

    execution_id: str


class ParentReady(Event, frozen=True, kw_only=True):
    """What a parked execution waited for is there (or it gave up waiting): it wants a slot again."""

    execution_id: str
    parked: bool = True
    """False: it did not park for this; it asks in case it has no slot from before."""


class ParentResumed(Event, frozen=True, kw_only=True):
    """The parked execution has a slot again; its waiting call may be answered."""

    execution_id: str
