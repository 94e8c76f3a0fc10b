"""A build's log: lines gathered for a moment and written together."""

from __future__ import annotations

import logging
from collections import deque

import anyio

from deferlite.bus import Bell
from deferlite.model.build import BuildState
from deferlite.model.clock import Clock
from deferlite.model.errors import DeferliteError
from deferlite.model.execution import LogLine
from deferlite.sandbox.git import without_secrets
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")

GATHER_SECONDS = 0.15
LONGEST_TEXT = 8192
MOST_LINES = 50_000
MOST_CHARACTERS = 16 * 1024 * 1024
LAST_LINES = 200
"""What is kept of a longer log: its beginning up to these two, and its end."""


class Journal:
    """Takes lines at any time; ``keep`` writes them until it is cancelled.

    After ``flush`` the lines said before it are written, after ``close`` all: the log of a build is whole at its end.
    """

    def __init__(self, store: Store, build_id: str, clock: Clock) -> None:
        self._store = store
        self._build_id = build_id
        self._clock = clock
        self._waiting: list[LogLine] = []
        self._last: deque[LogLine] = deque(maxlen=LAST_LINES)
        self._lines = self._characters = self._left_out = 0
        self._bell = Bell()
        self._writing = anyio.Lock()

    def say(self, text: str) -> None:
        """deferlite's own words."""
        self.line("system", text)

    def line(self, stream: str, text: str) -> None:
        """A line of a command's output."""
        line = LogLine(self._clock.now(), stream, storable(text)[:LONGEST_TEXT])
        self._lines += 1
        self._characters += len(line.text)
        if self._lines > MOST_LINES or self._characters > MOST_CHARACTERS:
            self._left_out += len(self._last) == LAST_LINES
            self._last.append(line)
        else:
            self._waiting.append(line)
            self._bell.ring()

    async def close(self) -> None:
        """Write what is left: no line comes any more."""
        if self._left_out:
            text = f"{self._left_out} lines are left out here: the log is too long"
            self._waiting.append(LogLine(self._last[0].time, "system", text))
        self._waiting += self._last
        self._last.clear()
        self._left_out = 0
        await self.flush()

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


class Progress:
    """Hears one build at work: its states go into its row, its lines into its log."""

    def __init__(self, store: Store, build_id: str, journal: Journal) -> None:
        self._store = store
        self._build_id = build_id
        self._journal = journal

    def say(self, text: str) -> None:
        self._journal.say(text)

    def line(self, stream: str, text: str) -> None:
        self._journal.line(stream, text)

    async def step(self, state: BuildState, builder: str | None = None) -> None:
        """Enter ``state``. Raises Conflict: the build has ended, or the state does not follow."""
        await self._store.builds.advance(self._build_id, state, builder)

    def failed(self, error: str) -> None:
        # The rest of it is the end of a command's output, which the log has already.
        self.say(error.partition("\n")[0])

    async def close(self) -> None:
        await self._journal.close()


def storable(text: str) -> str:
    """As the store takes it, and people may read it: no passwords of addresses, as package indexes have them.

    Names of files may be no UTF-8.
    """
    return without_secrets(text).encode(errors="backslashreplace").decode().replace("\0", "\ufffd")
