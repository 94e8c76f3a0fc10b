"""A build's log: lines gathered for a moment and written together."""

from __future__ import annotations

import logging

import anyio

from deferlite.bus import Bell
from deferlite.model.clock import Clock
from deferlite.model.errors import DeferliteError
from deferlite.model.execution import LogLine
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")

GATHER_SECONDS = 0.15
LONGEST_TEXT = 8192
MOST_LINES = 50_000


class Journal:
    """Takes lines at any time; ``keep`` writes them until it is cancelled.

    After ``flush`` all lines said before it are written: flushed before a build's end, its log is whole at its end.
    """

    def __init__(self, store: Store, build_id: str, clock: Clock) -> None:
        self._store = store
        self._build_id = build_id
        self._clock = clock
        self._waiting: list[LogLine] = []
        self._count = 0
        self._bell = Bell()
        self._writing = anyio.Lock()

    def say(self, text: str) -> None:
        """deferlite's own words."""
        self.line("system", text)

    def line(self, stream: str, text: str) -> None:
        """A line of a command's output."""
        self._count += 1
        if self._count == MOST_LINES:
            stream, text = "system", f"the log ends here: it has {MOST_LINES} lines"
        if self._count <= MOST_LINES:
            self._waiting.append(LogLine(self._clock.now(), stream, storable(text[:LONGEST_TEXT])))
            self._bell.ring()

    async def keep(self) -> None:
        while True:
            await self._bell.wait()
            await anyio.sleep(GATHER_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        with anyio.CancelScope(shield=True):
            async with self._writing:
                lines, self._waiting = self._waiting, []
                if lines:
                    await self._write(lines)

    async def _write(self, lines: list[LogLine]) -> None:
        try:
            await self._store.logs.append_build(self._build_id, lines)
        except DeferliteError:
            log.exception("build %s: %d lines of its log could not be written", self._build_id, len(lines))


def storable(text: str) -> str:
    """As the store takes it: names of files may be no UTF-8."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\ufffd")
