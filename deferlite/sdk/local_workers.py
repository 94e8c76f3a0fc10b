"""The threads of the in-process backend: they start what may start, and settle how it ended."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from deferlite.sdk.current import in_process
from deferlite.sdk.local_queue import Queue
from deferlite.sdk.local_record import RAISED, Attempted, Record, arun, run

log = logging.getLogger("deferlite")

LOOK_AGAIN = 0.05
"""Seconds between two looks where nothing can wake the one who waits."""


class Workers:
    """A queue and one daemon thread for each execution that runs. Methods that say so want the lock held."""

    def __init__(self, slots: int) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queue = Queue(slots)
        self._timer_runs = False
        self._no_threads = False
        """The interpreter refuses new threads, as it does at its end: then whoever waits does the work."""

    def _dispatch(self) -> None:
        """Start what can start, and see to it that the rest is looked at in time. The lock is held."""
        while (record := self._take()) is not None:
            if not self._start(self._work, record, name=f"deferlite-{record.name}"):
                self._put_back(record)
                break
        now = utc_now()
        for record in self._queue.excess():
            self._queue.end(record, "cancelled", now)
        if self._queue.next_due() is not None and not self._timer_runs:
            self._timer_runs = self._start(self._watch_the_clock, name="deferlite-timer")
        self._changed.notify_all()

    def _start(self, target: Callable[..., None], *arguments: Record, name: str) -> bool:
        try:
            threading.Thread(target=target, args=arguments, name=name, daemon=True).start()
        except RuntimeError:
            self._no_threads = True
            return False
        self._no_threads = False
        return True

    def _watch_the_clock(self) -> None:
        with self._lock:
            while (due := self._queue.next_due()) is not None:
                self._changed.wait(min(max((due - utc_now()).total_seconds(), 0.0), 3600.0))
                if due <= utc_now():
                    self._dispatch()
            self._timer_runs = False

    def _take(self) -> Record | None:
        """The next one to run, marked as started."""
        now = utc_now()
        self._queue.promote(now)
        record = self._queue.take()
        if record is not None:
            record.begin(now)
        return record

    def _put_back(self, record: Record) -> None:
        record.attempts.pop()
        record.move("created", utc_now())
        self._queue.undo_take(record)

    def _work(self, first: Record) -> None:
        """Run an execution, then whatever is next, until nothing is."""
        record: Record | None = first
        while record is not None:
            record = self._run(record, and_take=True)

    def _run(self, record: Record, and_take: bool = False) -> Record | None:
        token = in_process.set(record.current())
        try:
            attempted = run(record)
        finally:
            in_process.reset(token)
        with self._lock:
            self._settle(record, attempted)
            following = self._take() if and_take else None
            self._dispatch()
            return following

    async def _arun(self, record: Record) -> None:
        token = in_process.set(record.current())
        try:
            attempted = await arun(record)
        finally:
            in_process.reset(token)
        with self._lock:
            self._settle(record, attempted)
            self._dispatch()

    def _settle(self, record: Record, attempted: Attempted) -> None:
        now = utc_now()
        self._queue.leave(record)
        record.cause = attempted.cause
        if record.state == "aborting":
            record.close_attempt("aborted", now, None)
            self._queue.end(record, "aborted", now)
        elif attempted.cause is None:
            record.close_attempt("succeed", now, None)
            record.result = attempted.result
            self._queue.end(record, "succeed", now)
        else:
            record.close_attempt("failed", now, RAISED)
            self._retry_or_fail(record, attempted, now)

    def _fail(self, record: Record, attempted: Attempted, now: datetime) -> None:
        record.result, record.error_code = attempted.result, RAISED
        self._queue.end(record, "failed", now)

    def _retry_or_fail(self, record: Record, attempted: Attempted, now: datetime) -> None:
        policy = record.request.definition.retry
        if record.retries >= policy.max_attempts:
            self._fail(record, attempted, now)
            log.error("%s (%s) failed", record.name, record.id, exc_info=attempted.cause)
            return
        record.retries += 1
        pause = policy.interval(record.retries, random.random())
        record.move("created", now)
        record.scheduled_at = now + timedelta(seconds=pause)
        self._queue.place(record, now)
        message = "%s (%s) failed: %r; retry %d of %d in %.1f s"
        log.warning(message, record.name, record.id, attempted.cause, record.retries, policy.max_attempts, pause)

    @contextmanager
    def _parked(self) -> Iterator[None]:
        """While the block waits, the execution this thread runs leaves its slot to others: no workflow can deadlock."""
        parent = self._park()
        try:
            yield
        finally:
            with self._lock:
                self._unpark(parent)
                while not self._has_resumed(parent):
                    self._changed.wait(1.0)

    def _park(self) -> Record | None:
        current = in_process.get()
        with self._lock:
            parent = self._queue.records.get(current.id) if current is not None else None
            if parent is None:
                return None
            parent.waiters += 1
            if parent in self._queue.returning:
                self._queue.returning.remove(parent)
            self._queue.leave_slot(parent)
            self._dispatch()
            return parent

    def _unpark(self, parent: Record | None) -> None:
        with self._lock:
            if parent is not None:
                parent.waiters -= 1
                if parent.waiters == 0 and not parent.is_over:
                    self._queue.returning.append(parent)

    def _has_resumed(self, parent: Record | None) -> bool:
        """True once the parent may go on: it has a slot again, or another of its calls still waits."""
        with self._lock:
            if parent is None or parent not in self._queue.returning:
                return True
            if not self._queue.try_return(parent):
                return False
            self._dispatch()
            return True

    async def _end_of(self, record: Record, timeout: float) -> None:
        """Wait until the record ends, without blocking the event loop."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(over.set)

        with self._lock:
            if record.is_over:
                return
            record.watchers.append(wake)
        try:
            await asyncio.wait_for(over.wait(), min(timeout, LOOK_AGAIN if self._no_threads else 60.0))
        except asyncio.TimeoutError:
            pass
        finally:
            with self._lock:
                if wake in record.watchers:
                    record.watchers.remove(wake)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)
