"""The open database: one writer, a few readers, and the events that follow what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from deferlite.bus import Bus
from deferlite.model.clock import Clock
from deferlite.store.connection import close_quietly, open_database
from deferlite.store.lock import ServerLock
from deferlite.store.readers import Readers
from deferlite.store.writer import Parameters, Transaction, Writer

T = TypeVar("T")
Row = tuple[Any, ...]


class Database:
    def __init__(self, writer: Writer, readers: Readers, lock: ServerLock, clock: Clock, bus: Bus) -> None:
        self._writer = writer
        self._readers = readers
        self._lock = lock
        self.clock = clock
        self.bus = bus

    @classmethod
    async def open(cls, path: Path, clock: Clock, bus: Bus) -> Database:
        lock = await anyio.to_thread.run_sync(ServerLock.take, path)
        try:
            connection = await anyio.to_thread.run_sync(open_database, path)
            try:
                readers = await Readers.open(path)
            except BaseException:
                await anyio.to_thread.run_sync(close_quietly, connection)
                raise
        except BaseException:
            lock.release()
            raise
        return cls(Writer(connection, path, clock, bus), readers, lock, clock, bus)

    async def write(self, operation: Callable[[Transaction], T], probe: str | None = None) -> T:
        """What ``operation`` returns, once it is on disk; ``probe`` names the crash points around the commit."""
        return await self._writer.submit(operation, probe)

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        return await self._readers.rows(sql, parameters)

    async def row(self, sql: str, parameters: Parameters = ()) -> Row | None:
        rows = await self._readers.rows(sql, parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            try:
                # The readers go first: the last connection to close folds the write-ahead log into the database.
                await self._writer.drain()
                await self._readers.close()
                await self._writer.close()
            finally:
                self._lock.release()
