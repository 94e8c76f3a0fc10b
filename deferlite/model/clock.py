"""Time as a thing that is handed in: the system's, or one that a test moves by hand."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Protocol

import anyio

SECOND = 1_000_000
"""Microseconds in a second."""


class Clock(Protocol):
    """Wall time in microseconds since 1970 (UTC), and a wait until such a moment."""

    def now(self) -> int: ...

    async def sleep_until(self, moment: int) -> None:
        """Return once ``now() >= moment``."""
        ...


class SystemClock:
    def now(self) -> int:
        return time.time_ns() // 1000

    async def sleep_until(self, moment: int) -> None:
        # In slices, so that a jump of the wall clock or a suspended machine is noticed within a second.
        while (left := moment - self.now()) > 0:  # noqa: ASYNC110
            await anyio.sleep(min(left / SECOND, 1.0))


class ManualClock:
    """A clock that stands still until ``advance`` is called."""

    def __init__(self, now: int = 1_700_000_000 * SECOND) -> None:
        self._now = now
        self._moved = anyio.Event()

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += round(seconds * SECOND)
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    async def sleep_until(self, moment: int) -> None:
        while self._now < moment:
            await self._moved.wait()


def to_rfc3339(moment: int) -> str:
    """``moment`` as RFC 3339 in UTC with microseconds, such as ``2026-11-23T08:00:00.000000Z``."""
    seconds, micros = divmod(moment, SECOND)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def from_datetime(value: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, without the rounding of a float timestamp."""
    delta = value - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (delta.days * 86400 + delta.seconds) * SECOND + delta.microseconds


def to_datetime(moment: int) -> datetime:
    seconds, micros = divmod(moment, SECOND)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=micros)
