"""Waiting for a hint, or for the slow timer."""

from __future__ import annotations

import anyio

from deferlite.bus import Bell
from deferlite.model.clock import SECOND, Clock


async def hint_or_timer(bell: Bell, clock: Clock, seconds: float) -> bool:
    """Return when ``bell`` rang, or after ``seconds`` of ``clock``: then it is True."""
    due = clock.now() + round(seconds * SECOND)
    timed = False

    async def ring_when_due() -> None:
        nonlocal timed
        await clock.sleep_until(due)
        timed = True
        bell.ring()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring_when_due)
        await bell.wait()
        tasks.cancel_scope.cancel()
    return timed


async def quiet(bell: Bell, pause: float, longest: float) -> None:
    """Return once ``bell`` has not rung for ``pause`` seconds, at the latest after ``longest``."""
    with anyio.move_on_after(longest):
        rang = True
        while rang:
            with anyio.move_on_after(pause) as scope:
                await bell.wait()
            rang = not scope.cancelled_caught
