"""The in-process backend: without DEFER_TOKEN, background functions run in threads of this program.

It is for laptops and tests. The queue lives in memory, so a program that ends first finishes what is due (Ctrl-C breaks
that off) and drops what is delayed, with a warning. A thread cannot be killed: a forced cancel drops the result when
it comes, and ``max_duration`` is not enforced. Cron functions are not scheduled.
"""

from __future__ import annotations

import asyncio
import atexit
import bisect
import heapq
import inspect
import itertools
import logging
import math
import os
import random
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from deferlite.sdk.current import in_process
from deferlite.sdk.errors import Conflict, NotFound
from deferlite.sdk.executions import Execution, NewExecution, Page, Query, State
from deferlite.sdk.local_record import Record, select, utc_now
from deferlite.sdk.payload import decode

_SLOTS = 10
"""Executions at once: what an environment of a server has by default."""
_KEPT = 10_000
"""Ended executions that can still be asked for."""
_LOOK_AGAIN = 0.05
_log = logging.getLogger("deferlite")


class LocalBackend:
    """Runs executions in threads of this process, ``slots`` of them at once.

    The threads are no daemons, so the interpreter waits for them when the program ends.
    """

    _retries = True

    def __init__(self, slots: int = _SLOTS) -> None:
        self._slots = slots
        self._changed = threading.Condition()
        self._sequence = itertools.count()
        self._records: dict[str, Record] = {}
        self._keys: dict[str, Record] = {}
        self._waiting: list[Record] = []
        """Those in state created, in the order in which they are to start."""
        self._running: set[Record] = set()
        """Those that have a slot."""
        self._returning: set[Record] = set()
        """Those that waited without a slot and want one back: they go before everything that is still to start."""
        self._ended: deque[str] = deque()
        self._alarms: list[datetime] = []
        self._clock_runs = False

    def enqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        with self._changed:
            records = [self._accept(request) for request in requests]
            self._dispatch()
            return [record.execution for record in records]

    async def aenqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        return self.enqueue(requests)

    def result(self, execution_id: str, timeout: float) -> Any:
        record = self._record(execution_id)
        if timeout > 0 and not record.over.done():
            parent = self._park()
            try:
                wait([record.over], None if timeout == math.inf else timeout)
            finally:
                with self._changed:
                    self._unpark(parent)
                    while not self._has_resumed(parent):
                        self._changed.wait()
        return record.value()

    async def aresult(self, execution_id: str, timeout: float) -> Any:
        record = self._record(execution_id)
        if timeout > 0 and not record.over.done():
            parent, over = self._park(), asyncio.wrap_future(record.over)
            try:
                await asyncio.wait([over], timeout=None if timeout == math.inf else timeout)
            finally:
                over.cancel()
                self._unpark(parent)
                while not self._has_resumed(parent):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_AGAIN)
        return record.value()

    def get(self, execution_id: str) -> Execution:
        return self._record(execution_id).execution

    def cancel(self, execution_id: str, force: bool) -> Execution:
        with self._changed:
            record = self._record(execution_id)
            state = record.execution.state
            if state == "created":
                self._waiting.remove(record)
                self._end(record, "cancelled")
            elif force and state in ("started", "aborting"):
                record.change("aborting")
            else:
                raise Conflict(f'cannot cancel execution in "{state}" state')
            return record.execution

    def reschedule(self, execution_id: str, moment: datetime | None) -> Execution:
        with self._changed:
            record = self._record(execution_id)
            if record.execution.state != "created":
                raise Conflict(f'cannot reschedule execution in "{record.execution.state}" state')
            self._waiting.remove(record)
            record.change("created", scheduled_at=moment or utc_now())
            self._wait_for_turn(record)
            self._dispatch()
            return record.execution

    def rerun(self, execution_id: str) -> Execution:
        with self._changed:
            record = self._again(execution_id)
            self._dispatch()
            return record.execution

    def find(self, query: Query) -> Page[Execution]:
        with self._changed:
            executions = [record.execution for record in self._records.values()][::-1]
        return select(executions, query, lambda execution: execution.id)

    def attempts(self, execution_id: str, query: Query) -> Page[Execution]:
        return select(self._record(execution_id).attempts[::-1], query, lambda attempt: str(attempt.attempt))

    def _record(self, execution_id: str) -> Record:
        try:
            return self._records[execution_id]
        except KeyError:
            raise NotFound(
                f'cannot find execution "{execution_id}" in this process: without DEFER_TOKEN a process knows its own'
            ) from None

    def _accept(self, request: NewExecution, rerun_of: str | None = None) -> Record:
        key, parent = request.options.idempotency_key, in_process.get()
        known = self._keys.get(key) if key is not None else None
        if known is not None and utc_now() - known.execution.created_at < timedelta(hours=24):
            return known
        record = Record.of(request, next(self._sequence), parent.id if parent is not None else None, rerun_of)
        self._records[record.execution.id] = record
        self._wait_for_turn(record)
        if key is not None:
            self._keys[key] = record
        return record

    def _again(self, execution_id: str) -> Record:
        old = self._record(execution_id)
        arguments, keywords = decode(old.arguments)
        options = replace(old.request.options, idempotency_key=None)
        return self._accept(NewExecution(old.request.definition, tuple(arguments), keywords, options), execution_id)

    def _wait_for_turn(self, record: Record) -> None:
        bisect.insort(self._waiting, record, key=Record.turn)
        for moment in (record.execution.scheduled_at, record.request.discard_at):
            if moment is not None:
                heapq.heappush(self._alarms, moment)

    def _dispatch(self) -> None:
        """Start what can start, and see to it that the rest is looked at in time. The lock is held."""
        now, blocked = utc_now(), set()
        for record in list(self._waiting):
            if not self._waiting or len(self._running) >= self._slots or any(map(self._has_room, self._returning)):
                break
            if record.lane in blocked or record.execution.scheduled_at > now:
                continue
            if self._has_room(record):
                self._start(record)
            elif record.request.definition.max_concurrency_action == "cancel" and self._is_full(record):
                self._waiting.remove(record)
                self._end(record, "cancelled")
            else:
                blocked.add(record.lane)
        if self._alarms and not self._clock_runs:
            threading.Thread(target=self._watch_the_clock, name="deferlite-clock", daemon=True).start()
            self._clock_runs = True
        self._changed.notify_all()

    def _has_room(self, record: Record) -> bool:
        key = record.lane[1]
        key_is_free = key is None or all(other.lane[1] != key for other in self._running)
        return len(self._running) < self._slots and key_is_free and not self._is_full(record)

    def _is_full(self, record: Record) -> bool:
        limit = record.request.definition.concurrency
        return limit is not None and sum(other.lane[0] == record.lane[0] for other in self._running) >= limit

    def _start(self, record: Record) -> None:
        try:
            threading.Thread(target=self._work, args=(record,), name=f"deferlite-{record.lane[0]}").start()
        except RuntimeError:
            if threading.main_thread().is_alive():
                raise
            # Pythons 3.12.0 to 3.12.2 start no thread while a program ends: nobody shall wait for what cannot run.
            for other in self._waiting:
                self._end(other, "cancelled")
            self._waiting.clear()
            return
        self._waiting.remove(record)
        self._running.add(record)
        record.begin()

    def _watch_the_clock(self) -> None:
        with self._changed:
            try:
                while self._alarms:
                    self._changed.wait(min(max((self._alarms[0] - utc_now()).total_seconds(), 0.0), 3600.0))
                    if self._alarms[0] <= utc_now():
                        self._ring(utc_now())
            finally:
                self._clock_runs = False

    def _ring(self, now: datetime) -> None:
        while self._alarms and self._alarms[0] <= now:
            heapq.heappop(self._alarms)
        for record in [record for record in self._waiting if record.is_expired(now)]:
            self._waiting.remove(record)
            self._end(record, "discarded")
        self._dispatch()

    def _work(self, record: Record) -> None:
        self._run(record)
        record.cause = None  # It keeps alive whatever its frames hold.
        with self._changed:
            self._dispatch()

    def _run(self, record: Record) -> None:
        with self._attempt(record):
            value = record.call()
            record.keep(asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value)

    @contextmanager
    def _attempt(self, record: Record) -> Iterator[None]:
        """Around the call of the function: what it raises is kept, and what follows from it is done."""
        with self._changed:
            token = in_process.set(record.current())
        try:
            yield
            record.cause = None
        except BaseException as error:
            record.cause = error
        finally:
            in_process.reset(token)
        with self._changed:
            self._leave_slot(record)
            self._settle(record)

    def _settle(self, record: Record) -> None:
        if record.execution.state == "aborting":
            record.result = None
            self._end(record, "aborted")
        elif record.cause is None:
            self._end(record, "succeed")
        elif self._retries and len(record.attempts) <= record.request.definition.retry.max_attempts:
            self._retry(record)
        else:
            self._end(record, "failed")
            _log.error("%s (%s) failed", record.lane[0], record.execution.id, exc_info=record.cause)

    def _end(self, record: Record, state: State) -> None:
        record.end(state)
        self._ended.append(record.execution.id)
        if len(self._ended) > _KEPT:
            self._records.pop(self._ended.popleft(), None)

    def _retry(self, record: Record) -> None:
        number = len(record.attempts)
        pause = record.request.definition.retry.interval(number, random.random())
        record.retry(utc_now() + timedelta(seconds=pause))
        self._wait_for_turn(record)
        message = "%s (%s) failed: %r; retry %d in %.1f s"
        _log.warning(message, record.lane[0], record.execution.id, record.cause, number, pause)

    def _park(self) -> Record | None:
        """The execution that is about to wait leaves its slot to others, so that no workflow can deadlock."""
        current = in_process.get()
        with self._changed:
            parent = self._records.get(current.id) if current is not None else None
            if parent is not None:
                parent.waiters += 1
                self._leave_slot(parent)
                self._dispatch()
            return parent

    def _unpark(self, parent: Record | None) -> None:
        with self._changed:
            if parent is not None:
                parent.waiters -= 1

    def _has_resumed(self, parent: Record | None) -> bool:
        """True once it may go on: it has a slot again, or other calls inside it still wait."""
        with self._changed:
            if parent is None or parent.waiters or parent.over.done() or parent in self._running:
                return True
            if not self._has_room(parent):
                self._returning.add(parent)
                return False
            self._leave_slot(parent)
            self._running.add(parent)
            self._dispatch()
            return True

    def _leave_slot(self, record: Record) -> None:
        self._running.discard(record)
        self._returning.discard(record)


async def _awaited(value: Any) -> Any:
    return await value


_backend = LocalBackend()


def local_backend() -> LocalBackend:
    """The one of this process."""
    return _backend


@atexit.register
def _warn_at_exit() -> None:
    if left := len(_backend._waiting):
        message = "%d delayed background executions are dropped: without DEFER_TOKEN they live in this process"
        _log.warning(message, left)


def _forget_after_fork() -> None:
    global _backend
    _backend = LocalBackend()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
