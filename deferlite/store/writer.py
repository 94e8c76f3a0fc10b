"""The one pen. Whatever arrives while a commit is under way is committed together by the next one.

A thread of its own holds the only connection that writes. Callers hand it operations: plain functions that take a
``Transaction``. Each runs in its own savepoint, so one that fails takes nothing of the others with it; after the one
commit their callbacks and events run on the event loop, and then their callers go on.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import anyio.to_thread

from deferlite.bus import Bus
from deferlite.model.clock import Clock
from deferlite.model.errors import StoreError
from deferlite.model.events import Event
from deferlite.probes import crash_point
from deferlite.store.connection import explain

log = logging.getLogger(__name__)

LARGEST_BATCH = 512
"""Operations in one commit."""
MOST_WAITING = 4096
"""Operations handed in and not answered; further callers wait for their turn."""

T = TypeVar("T")
Parameters = Sequence[Any] | Mapping[str, Any]


class Transaction:
    """What an operation may do: run SQL, and say what is to happen once it is on disk."""

    def __init__(self, connection: sqlite3.Connection, now: int, bus: Bus) -> None:
        self._connection = connection
        self._bus = bus
        self.now = now
        """Microseconds since 1970, one moment for the whole operation."""
        self.afterwards: list[Callable[[], None]] = []
        self.probes: set[str] = set()

    def all(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """The first row, or None. The statement runs to its end, also where it changes rows."""
        rows = self.all(sql, parameters)
        return rows[0] if rows else None

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement that answers no rows; how many rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    def many(self, sql: str, rows: Iterable[Parameters]) -> None:
        self._connection.executemany(sql, rows)

    def publish(self, event: Event) -> None:
        """Tell the bus after the commit."""
        self.afterwards.append(partial(self._bus.publish, event))

    def then(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the event loop after the commit, before any caller goes on."""
        self.afterwards.append(callback)


class _Job(Generic[T]):
    def __init__(self, operation: Callable[[Transaction], T], probe: str | None, future: asyncio.Future[T]) -> None:
        self.operation = operation
        self.probe = probe
        self.future = future
        self.transaction: Transaction | None = None
        self.result: T | None = None
        self.error: BaseException | None = None


class Writer:
    """Takes over ``connection``; use it on one event loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock, bus: Bus) -> None:
        self._connection = connection
        self._path = path
        self._clock = clock
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._room = asyncio.Semaphore(MOST_WAITING)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="deferlite-writer", daemon=True)
        self._thread.start()

    async def submit(self, operation: Callable[[Transaction], T], probe: str | None = None) -> T:
        """What ``operation`` returns, once it is on disk. A caller that is cancelled does not take it back.

        Raises:
            StoreError: the store is closed, the disk is full or broken; then nothing of the operation is stored.
            Exception: what ``operation`` raised; then nothing of it is stored either.
        """
        async with self._room:
            if self._closed:
                raise StoreError("the store is closed")
            future: asyncio.Future[T] = self._loop.create_future()
            self._queue.put(_Job(operation, probe, future))
            return await future

    async def drain(self) -> None:
        """Refuse further work and return once all that was handed in is answered."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await anyio.to_thread.run_sync(self._thread.join)
        # The answers of the last batch are on the loop, and wait for this turn of it to end.
        await asyncio.sleep(0)

    async def close(self) -> None:
        await self.drain()
        await anyio.to_thread.run_sync(self._connection.close)

    # On the writer's thread

    def _work(self) -> None:
        open_for_more = True
        while open_for_more:
            batch, open_for_more = self._next_batch()
            if batch:
                self._commit(batch)
                self._loop.call_soon_threadsafe(_settle, batch)

    def _next_batch(self) -> tuple[list[_Job[Any]], bool]:
        batch: list[_Job[Any]] = []
        job = self._queue.get()
        while job is not None:
            batch.append(job)
            if len(batch) == LARGEST_BATCH:
                return batch, True
            try:
                job = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: list[_Job[Any]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            probes: set[str] = set()
            for job in batch:
                probes |= self._run(job)
            for probe in probes:
                crash_point(f"{probe}.before_commit")
            self._connection.execute("COMMIT")
            for probe in probes:
                crash_point(f"{probe}.after_commit")
        except Exception as error:
            self._give_up(batch, error)

    def _run(self, job: _Job[Any]) -> set[str]:
        connection = self._connection
        transaction = Transaction(connection, self._clock.now(), self._bus)
        connection.execute("SAVEPOINT operation")
        try:
            job.result = job.operation(transaction)
        except Exception as error:
            if _spoils_batch(error) or not connection.in_transaction:
                raise
            job.error = explain(error, self._path) if isinstance(error, sqlite3.Error) else error
            connection.execute("ROLLBACK TO operation")
            transaction.probes.clear()
        else:
            job.transaction = transaction
            if job.probe is not None:
                transaction.probes.add(job.probe)
        connection.execute("RELEASE operation")
        return transaction.probes

    def _give_up(self, batch: list[_Job[Any]], error: Exception) -> None:
        log.error("a commit of %d operations failed: %s", len(batch), error)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("the failed commit could not be rolled back")
        for job in batch:
            job.transaction = None
            job.error = explain(error, self._path) if isinstance(error, sqlite3.Error) else StoreError(str(error))


def _spoils_batch(error: Exception) -> bool:
    """Whether the disk is to blame, and not the one operation."""
    if not isinstance(error, sqlite3.Error) or isinstance(
        error, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
    ):
        return False
    text = str(error)
    return any(word in text for word in ("disk", "I/O", "malformed", "readonly", "unable to open", "locked"))


def _settle(batch: list[_Job[Any]]) -> None:
    """On the event loop: first everybody hears what is true now, then the callers go on."""
    for job in batch:
        for callback in job.transaction.afterwards if job.transaction else ():
            try:
                callback()
            except Exception:
                log.exception("a listener failed")
    for job in batch:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
