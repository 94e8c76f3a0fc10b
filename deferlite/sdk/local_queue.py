"""The queue of the in-process backend: who may start now. Data only; its owner brings lock, clock and threads."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from datetime import datetime

from deferlite.sdk.errors import NotFound
from deferlite.sdk.executions import State
from deferlite.sdk.local_record import Record

_KEPT = 10_000
"""Ended executions that can still be asked for."""


class Queue:
    """``slots`` executions at once, and per function no more than its concurrency.

    Executions of one concurrency key run one after another.
    """

    def __init__(self, slots: int) -> None:
        self.records: dict[str, Record] = {}
        self._slots = slots
        self._order = itertools.count()
        self._ready: defaultdict[str, list[tuple[int, int, int, Record]]] = defaultdict(list)
        self._later: list[tuple[datetime, int, int, Record]] = []
        self._used = 0
        self._running: Counter[str] = Counter()
        self._keys: set[str] = set()
        self._blocked: defaultdict[str, list[tuple[int, Record]]] = defaultdict(list)
        self._ended: deque[str] = deque()
        self.returning: list[Record] = []
        """Records that waited without a slot and want one back: they go before everything that is still to start."""
        self.active = 0
        """Executions that have started and not ended, waiting ones too."""

    def get(self, execution_id: str) -> Record:
        try:
            return self.records[execution_id]
        except KeyError:
            raise NotFound(
                f'cannot find execution "{execution_id}" in this process: without DEFER_TOKEN a process knows its own'
            ) from None

    def newest_first(self) -> Iterator[Record]:
        return reversed(self.records.values())

    def add(self, record: Record, now: datetime) -> None:
        self.records[record.id] = record
        self.place(record, now)

    def place(self, record: Record, now: datetime) -> None:
        """Put a created record where it belongs: among the ready, or among those with a time to wait for."""
        record.ticket += 1
        if record.scheduled_at <= now:
            self._push_ready(record)
        else:
            self._push_later(record, record.scheduled_at)
        if record.request.discard_at is not None and not record.attempts:
            self._push_later(record, record.request.discard_at)

    def promote(self, now: datetime) -> list[Record]:
        """Make ready what has come due, and discard what has waited too long; returns the discarded."""
        discarded = []
        while self._later and self._later[0][0] <= now:
            _, _, ticket, record = heapq.heappop(self._later)
            if record.state != "created" or record.ticket != ticket:
                continue
            discard_at = record.request.discard_at
            if discard_at is not None and discard_at <= now and not record.attempts:
                self.end(record, "discarded", now)
                discarded.append(record)
            else:
                self._push_ready(record)
        return discarded

    def next_due(self) -> datetime | None:
        """When ``promote`` has something to do next."""
        while self._later and self._is_void(self._later[0][2], self._later[0][3]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def take(self) -> Record | None:
        """The ready record that is to start now, its slot taken; None if there is none or no slot."""
        if self._used >= self._slots or any(map(self._has_room, self.returning)):
            return None
        best: Record | None = None
        for name in list(self._ready):
            head = self._head(name)
            if head is not None and (best is None or self._rank(head) < self._rank(best)):
                best = head
        if best is not None:
            heapq.heappop(self._ready[best.name])
            self._occupy(best)
            self.active += 1
        return best

    def excess(self) -> list[Record]:
        """Ready records of functions that are at their limit and cancel what comes on top."""
        found: list[Record] = []
        for entries in self._ready.values():
            if entries and self._cancels(entries[0][-1]):
                found += [record for *_, ticket, record in entries if not self._is_void(ticket, record)]
        return found

    def has_ready(self) -> bool:
        return any(
            not self._is_void(ticket, record) for entries in self._ready.values() for *_, ticket, record in entries
        )

    def delayed(self) -> int:
        """How many executions wait for their time."""
        return len({record.id for _, _, ticket, record in self._later if not self._is_void(ticket, record)})

    def undo_take(self, record: Record) -> None:
        self.active -= 1
        self.leave_slot(record)
        self._push_ready(record)

    def leave(self, record: Record) -> None:
        """The record's attempt is over."""
        self.active -= 1
        self.leave_slot(record)
        if record in self.returning:
            self.returning.remove(record)

    def leave_slot(self, record: Record) -> None:
        """Free what the record occupies; it goes on without, or ends."""
        if not record.has_slot:
            return
        record.has_slot = False
        self._used -= 1
        self._running[record.name] -= 1
        key = record.request.concurrency_key
        if key is not None:
            self._keys.discard(key)
            for ticket, blocked in self._blocked.pop(key, ()):
                if not self._is_void(ticket, blocked):
                    self._push_ready(blocked)

    def try_return(self, record: Record) -> bool:
        """Give a slot back to a record that waited without one, if there is one to have."""
        if not self._has_room(record):
            return False
        self.returning.remove(record)
        self._occupy(record)
        return True

    def _has_room(self, record: Record) -> bool:
        key_is_busy = record.request.concurrency_key in self._keys
        return self._used < self._slots and not self._is_full(record) and not key_is_busy

    def end(self, record: Record, state: State, now: datetime) -> None:
        record.move(state, now)
        record.finished_at = now
        self._ended.append(record.id)
        while len(self._ended) > _KEPT:
            self.records.pop(self._ended.popleft(), None)
        for watcher in record.watchers:
            watcher()
        record.watchers.clear()

    def _head(self, name: str) -> Record | None:
        """The first of a function's ready records that could start, if any."""
        entries = self._ready[name]
        while entries:
            *_, ticket, record = entries[0]
            if self._is_void(ticket, record):
                heapq.heappop(entries)
            elif self._is_full(record):
                return None
            elif record.request.concurrency_key in self._keys:
                heapq.heappop(entries)
                self._blocked[record.request.concurrency_key or ""].append((ticket, record))
            else:
                return record
        del self._ready[name]
        return None

    def _occupy(self, record: Record) -> None:
        record.has_slot = True
        self._used += 1
        self._running[record.name] += 1
        if record.request.concurrency_key is not None:
            self._keys.add(record.request.concurrency_key)

    def _is_full(self, record: Record) -> bool:
        limit = record.request.definition.concurrency
        return limit is not None and self._running[record.name] >= limit

    def _cancels(self, record: Record) -> bool:
        return record.request.definition.max_concurrency_action == "cancel" and self._is_full(record)

    def _push_ready(self, record: Record) -> None:
        entry = (-record.request.priority, record.sequence, record.ticket, record)
        heapq.heappush(self._ready[record.name], entry)

    def _push_later(self, record: Record, moment: datetime) -> None:
        heapq.heappush(self._later, (moment, next(self._order), record.ticket, record))

    @staticmethod
    def _rank(record: Record) -> tuple[int, int]:
        return -record.request.priority, record.sequence

    @staticmethod
    def _is_void(ticket: int, record: Record) -> bool:
        return record.state != "created" or record.ticket != ticket
