"""Waiting for the end of an execution: one listener for all that wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio

from deferlite.bus import Bus
from deferlite.model.events import ExecutionChanged
from deferlite.model.execution import TERMINAL


class Waiters:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[str, set[anyio.Event]] = {}
        self._listening = ExitStack()

    @contextmanager
    def ended(self, execution_id: str) -> Iterator[anyio.Event]:
        """An event that is set when the execution reaches a terminal state inside the block."""
        event = anyio.Event()
        if not self._waiting:
            self._listening.enter_context(self._bus.listening(ExecutionChanged, self._on_changed))
        self._waiting.setdefault(execution_id, set()).add(event)
        try:
            yield event
        finally:
            self._forget(execution_id, event)

    def _forget(self, execution_id: str, event: anyio.Event) -> None:
        waiting = self._waiting[execution_id]
        waiting.discard(event)
        if not waiting:
            del self._waiting[execution_id]
        if not self._waiting:
            self._listening.close()

    def _on_changed(self, event: ExecutionChanged) -> None:
        if event.state in TERMINAL:
            for waiter in self._waiting.get(event.execution_id, ()):
                waiter.set()
