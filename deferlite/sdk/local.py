"""The in-process backend: without DEFER_TOKEN, background functions run in threads of this program.

It is for laptops and tests: the queue lives in memory. What differs from a server:

- A thread cannot be killed: a forced cancel marks the execution ``aborting`` and drops its result when it ends, and
  ``max_duration`` is not enforced. Cron functions are not scheduled.
- When the program ends it first finishes what is due, as long as that takes (Ctrl-C breaks it off); what is
  delayed or waits for a retry is dropped with a warning.
- A forked child starts with an empty queue.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from deferlite.sdk.current import in_process
from deferlite.sdk.errors import Conflict
from deferlite.sdk.executions import Ended, Execution, NewExecution, Page, Query
from deferlite.sdk.local_record import Record, select
from deferlite.sdk.local_workers import LOOK_AGAIN, Workers, log, utc_now
from deferlite.sdk.payload import encode

_SLOTS = 10
"""Executions at once: what an environment of a server has by default."""
_SAY_AT_EXIT_AFTER = 3.0


class LocalBackend(Workers):
    """Runs executions in daemon threads of this process, ``slots`` of them at once."""

    def __init__(self, slots: int = _SLOTS) -> None:
        super().__init__(slots)
        self._sequence = itertools.count(1)
        self._keys: dict[str, Record] = {}

    def enqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        with self._lock:
            records = self._accept(requests)
            return [record.snapshot() for record in records]

    async def aenqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        return self.enqueue(requests)

    def outcome(self, execution_id: str, timeout: float) -> Ended | None:
        deadline = time.monotonic() + timeout
        with self._lock:
            record = self._queue.get(execution_id)
        with self._parked():
            while (left := deadline - time.monotonic()) > 0 and not record.is_over:
                with self._lock:
                    mine = self._take() if self._no_threads else None
                    if mine is None and not record.is_over:
                        self._changed.wait(min(left, 1.0 if self._no_threads else 60.0))
                if mine is not None:
                    self._run(mine)
        return record.ended()

    async def aoutcome(self, execution_id: str, timeout: float) -> Ended | None:
        deadline = time.monotonic() + timeout
        with self._lock:
            record = self._queue.get(execution_id)
        parent = self._park()
        try:
            while (left := deadline - time.monotonic()) > 0 and not record.is_over:
                with self._lock:
                    mine = self._take() if self._no_threads else None
                if mine is not None:
                    await self._arun(mine)
                else:
                    await self._end_of(record, left)
        finally:
            self._unpark(parent)
            while not self._has_resumed(parent):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_AGAIN)
        return record.ended()

    def get(self, execution_id: str) -> Execution:
        with self._lock:
            return self._queue.get(execution_id).snapshot()

    def cancel(self, execution_id: str, force: bool) -> Execution:
        with self._lock:
            record, now = self._queue.get(execution_id), utc_now()
            if record.state == "created":
                self._queue.end(record, "cancelled", now)
                self._changed.notify_all()
            elif record.state == "started" and force:
                record.move("aborting", now)
            elif not (record.state == "aborting" and force):
                raise Conflict(f'cannot cancel execution in "{record.state}" state')
            return record.snapshot()

    def reschedule(self, execution_id: str, moment: datetime | None) -> Execution:
        with self._lock:
            record, now = self._queue.get(execution_id), utc_now()
            if record.state != "created":
                raise Conflict(f'cannot reschedule execution in "{record.state}" state')
            record.scheduled_at = moment or now
            record.updated_at = now
            self._queue.place(record, now)
            self._dispatch()
            return record.snapshot()

    def rerun(self, execution_id: str) -> Execution:
        with self._lock:
            old, now = self._queue.get(execution_id), utc_now()
            record = Record(old.request, now, now, next(self._sequence), old.arguments, rerun_of=old.id)
            self._queue.add(record, now)
            self._dispatch()
        return record.snapshot()

    def find(self, query: Query) -> Page[Execution]:
        with self._lock:
            executions = [record.snapshot() for record in self._queue.newest_first()]
        return select(executions, query)

    def attempts(self, execution_id: str, query: Query) -> Page[Execution]:
        with self._lock:
            attempts = self._queue.get(execution_id).attempts[::-1]
        return select(attempts, query, cursor=lambda attempt: str(attempt.attempt))

    def finish(self) -> int:
        """Work until nothing is due and nothing runs; returns how many delayed executions are left."""
        started, said = time.monotonic(), False
        while True:
            with self._lock:
                self._dispatch()
                mine = self._take() if self._no_threads else None
                if mine is None and not self._queue.active and not self._queue.has_ready():
                    return self._queue.delayed()
                if not said and time.monotonic() - started > _SAY_AT_EXIT_AFTER:
                    log.warning("waiting for %d background executions; Ctrl-C drops them", self._queue.active)
                    said = True
                if mine is None:
                    self._changed.wait(1.0)
            if mine is not None:
                self._run(mine)

    def _accept(self, requests: Sequence[NewExecution]) -> list[Record]:
        with self._lock:
            records = [self._add(request) for request in requests]
            self._dispatch()
            return records

    def _add(self, request: NewExecution) -> Record:
        now, key = utc_now(), request.idempotency_key
        known = self._keys.get(key) if key is not None else None
        if known is not None and now - known.created_at < timedelta(hours=24):
            return known
        current = in_process.get()
        record = Record(
            request=request,
            scheduled_at=request.scheduled_at or now,
            created_at=now,
            sequence=next(self._sequence),
            arguments=encode([request.arguments, request.keyword_arguments]),
            parent_id=current.id if current is not None else None,
        )
        if key is not None:
            self._keys[key] = record
        self._queue.add(record, now)
        return record


_backend: LocalBackend | None = None
_backend_lock = threading.Lock()


def local_backend() -> LocalBackend:
    """The one of this process."""
    global _backend
    with _backend_lock:
        if _backend is None:
            _backend = LocalBackend()
            atexit.register(_finish_at_exit, _backend, os.getpid())
        return _backend


def _finish_at_exit(backend: LocalBackend, pid: int) -> None:
    if os.getpid() != pid:
        return
    left = backend.finish()
    if left:
        log.warning("%d delayed background executions are dropped: without DEFER_TOKEN they live in this process", left)


def _forget_after_fork() -> None:
    global _backend, _backend_lock
    _backend, _backend_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
