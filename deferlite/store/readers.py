"""Reading connections: each has its thread, none can write, none is held longer than one query."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from deferlite.model.errors import StoreError
from deferlite.store.connection import explain, reader

READERS = 3


class Readers:
    """A small pool. A hop to a thread costs more than most queries: one hop is one query."""

    def __init__(self, path: Path, connections: list[aiosqlite.Connection]) -> None:
        self._path = path
        self._all = tuple(connections)
        self._idle = connections
        self._slots = anyio.Semaphore(len(connections))
        self._closed = False

    @classmethod
    async def open(cls, path: Path, size: int = READERS) -> Readers:
        """Raises StoreError when the file cannot be read."""
        connections: list[aiosqlite.Connection] = []
        try:
            for _ in range(size):
                connections.append(await aiosqlite.Connection(partial(reader, path), iter_chunk_size=64))
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                for connection in connections:
                    await connection.close()
            if isinstance(error, sqlite3.Error):
                raise explain(error, path) from error
            raise
        return cls(path, connections)

    async def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of one query, read from one snapshot that is no older than this call."""
        async with self._slots:
            if self._closed:
                raise StoreError("the store is closed")
            connection = self._idle.pop()
            try:
                rows: Any = await connection.execute_fetchall(sql, parameters)
                return list(rows)
            except sqlite3.Error as error:
                raise explain(error, self._path) from error
            finally:
                self._idle.append(connection)

    async def close(self) -> None:
        self._closed = True
        for connection in self._all:
            await connection.close()
