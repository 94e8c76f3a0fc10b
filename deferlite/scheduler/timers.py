"""What comes due: delays, discards and cron ticks."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import anyio

from deferlite.bus import Bell, Bus
from deferlite.model.clock import SECOND, Clock
from deferlite.model.events import BuildPublished, EnvironmentChanged, Event, ExecutionsEnqueued
from deferlite.store import Store

log = logging.getLogger(__name__)

LONGEST_SLEEP = 60 * SECOND
"""Events are hints: after this long the timers look by themselves."""


class Timers:
    """Moves what has come due; the store tells the dispatcher by its events."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._bell = Bell()

    async def run(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._bus.listening(ExecutionsEnqueued, self._on_enqueued))
            for kind in (BuildPublished, EnvironmentChanged):
                stack.enter_context(self._bus.listening(kind, self._ring))
            while True:
                await self.tick()
                await self._sleep()

    async def tick(self) -> None:
        """Do everything that is due now."""
        now = self._clock.now()
        await self._store.executions.tick_cron(now)
        await self._store.executions.discard(now)
        await self._store.executions.promote(now)

    async def _sleep(self) -> None:
        due = await self._store.executions.next_due()
        wake_at = self._clock.now() + LONGEST_SLEEP
        if due is not None:
            wake_at = min(wake_at, due)
        async with anyio.create_task_group() as race:
            race.start_soon(self._wait_bell, race.cancel_scope)
            await self._clock.sleep_until(wake_at)
            race.cancel_scope.cancel()

    async def _wait_bell(self, scope: anyio.CancelScope) -> None:
        await self._bell.wait()
        scope.cancel()

    def _on_enqueued(self, event: ExecutionsEnqueued) -> None:
        if event.due_at is not None:
            self._bell.ring()

    def _ring(self, event: Event) -> None:
        self._bell.ring()
