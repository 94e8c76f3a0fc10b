"""The executor seam: what the scheduler asks for and what comes back. No call names a path of this machine."""

from __future__ import annotations

from typing import Protocol

import msgspec

from deferlite.model.execution import LogLine, Outcome
from deferlite.sandbox.launch import LaunchPlan

__all__ = ["BuildLocator", "Executor", "LaunchPlan", "Order", "Sink"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to run. ``env`` is the complete set of variables; HOME and TMPDIR are the executor's to add."""

    id: str
    attempt: int
    environment: str
    build_id: str
    function_name: str
    module: str
    attribute: str
    arguments: str = "[]"
    """JSON text of an array."""
    keyword_arguments: str = "{}"
    """JSON text of an object."""
    env: dict[str, str] = {}
    max_duration: float
    """Seconds, counted from the start in a process of its own."""


class Sink(Protocol):
    """Where an executor reports, on the event loop. The calls must not block or raise."""

    def logged(self, execution_id: str, attempt: int, lines: list[LogLine]) -> None: ...

    def ended(self, execution_id: str, attempt: int, outcome: Outcome) -> None:
        """Exactly once per ``start``, and only after every process of the attempt is gone."""
        ...


class Executor(Protocol):
    sandbox: str
    """The level's name, for the execution's record."""

    async def warm(self, environment: str, build_id: str) -> None:
        """Start a runner ahead of the first order. Errors are told to the orders, not here."""
        ...

    def start(self, order: Order) -> None:
        """Run ``order``; returns at once."""
        ...

    def abort(self, execution_id: str, attempt: int) -> None:
        """End the attempt with ABORTED; nothing happens if it is not running."""
        ...

    async def release(self, build_id: str) -> None:
        """The build is not live any more: its runner goes when its last execution has ended."""
        ...

    async def stop(self, drain: float) -> None:
        """Wait up to ``drain`` seconds for what runs, end the rest as INTERRUPTED, leave no process."""
        ...


class BuildLocator(Protocol):
    async def locate(self, build_id: str) -> LaunchPlan:
        """Raises:
        NotFound: no such build, or its folder is gone.
        """
        ...
