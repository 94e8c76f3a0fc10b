"""For the test suites of applications: background functions without a server and without waiting.

``inline()`` runs every call at once, in the same thread, and lets its failure out::

    with deferlite.testing.inline():
        register("ada@example.org")          # calls send_welcome(...), which runs here
    assert mail.outbox

``capture()`` runs nothing and keeps what was enqueued::

    with deferlite.testing.capture() as queue:
        register("ada@example.org")
        queue.assert_enqueued(send_welcome, "ada@example.org")
        queue.run_all()                      # now it runs, with whatever it enqueues itself

Both hold for the whole process, in all its threads, until the block ends; DEFER_TOKEN does not matter inside. Delays
are not waited for and failures are not retried.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from deferlite.sdk.backends import override
from deferlite.sdk.executions import Ended, Execution, NewExecution
from deferlite.sdk.functions import AsyncBackgroundCall, BackgroundCall
from deferlite.sdk.local import LocalBackend
from deferlite.sdk.local_record import Attempted, Record
from deferlite.sdk.payload import decode, encode

AnyBackgroundFunction = BackgroundCall[..., Any] | AsyncBackgroundCall[..., Any]


@dataclass(frozen=True)
class Enqueued:
    """One call that was enqueued, as a function would receive it."""

    id: str
    function_name: str
    arguments: tuple[Any, ...]
    keyword_arguments: Mapping[str, Any]
    scheduled_at: datetime
    metadata: Mapping[str, str]
    priority: int
    idempotency_key: str | None
    concurrency_key: str | None
    discard_at: datetime | None
    state: str


class _ManualBackend(LocalBackend):
    """Starts nothing by itself."""

    def _dispatch(self) -> None:
        self._changed.notify_all()

    def run_now(self, record: Record) -> None:
        self._begin_now(record)
        self._run(record)

    async def arun_now(self, record: Record) -> None:
        self._begin_now(record)
        await self._arun(record)

    def pending(self) -> list[Record]:
        """What has not run yet, in the order in which it would."""
        with self._lock:
            waiting = [record for record in self._queue.records.values() if record.state == "created"]
        return sorted(waiting, key=lambda record: (record.scheduled_at, -record.request.priority, record.sequence))

    def _begin_now(self, record: Record) -> None:
        with self._lock:
            record.begin(datetime.now(timezone.utc))
            self._queue.active += 1

    def _park(self) -> Record | None:
        # Nothing holds a slot here.
        return None

    def _retry_or_fail(self, record: Record, attempted: Attempted, now: datetime) -> None:
        self._fail(record, attempted, now)


class _InlineBackend(_ManualBackend):
    """Runs at once what is enqueued; its failure is the caller's, unless the caller waits for the result."""

    def enqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        records = self._accept(requests)
        for record in records:
            if record.state == "created":
                self.run_now(record)
                _raise_failure(record)
        return [record.snapshot() for record in records]

    async def aenqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        records = self._accept(requests)
        for record in records:
            if record.state == "created":
                await self.arun_now(record)
                _raise_failure(record)
        return [record.snapshot() for record in records]

    def rerun(self, execution_id: str) -> Execution:
        record = self._queue.get(super().rerun(execution_id).id)
        self.run_now(record)
        _raise_failure(record)
        return record.snapshot()


class _CaptureBackend(_ManualBackend):
    """Keeps what is enqueued. Who waits for a result gets it: that execution runs then."""

    def outcome(self, execution_id: str, timeout: float) -> Ended | None:
        record = self._queue.get(execution_id)
        if record.request.awaited and record.state == "created":
            self.run_now(record)
        return record.ended()

    async def aoutcome(self, execution_id: str, timeout: float) -> Ended | None:
        record = self._queue.get(execution_id)
        if record.request.awaited and record.state == "created":
            await self.arun_now(record)
        return record.ended()

    def clear(self) -> None:
        with self._lock:
            self._queue.records.clear()
            self._keys.clear()

    def records(self) -> list[Record]:
        with self._lock:
            return list(self._queue.records.values())


class CapturedQueue:
    """What was enqueued inside ``capture()``."""

    def __init__(self, backend: _CaptureBackend) -> None:
        self._backend = backend

    @property
    def executions(self) -> list[Enqueued]:
        """Everything enqueued since the beginning or the last ``clear``, oldest first."""
        return [_enqueued(record) for record in self._backend.records()]

    def of(self, fn: AnyBackgroundFunction) -> list[Enqueued]:
        """Those of one function."""
        return [_enqueued(record) for record in self._records_of(fn)]

    def __len__(self) -> int:
        return len(self._backend.records())

    def run_all(self) -> list[Execution]:
        """Run what has not run yet, delayed ones too, until nothing is left, in order of time and priority.

        Raises what a function raises; the rest stays in the queue. Inside an event loop use ``arun_all``.
        """
        done = []
        while waiting := self._backend.pending():
            self._backend.run_now(waiting[0])
            _raise_failure(waiting[0])
            done.append(waiting[0].snapshot())
        return done

    async def arun_all(self) -> list[Execution]:
        """``run_all`` for coroutines: async functions run in this event loop."""
        done = []
        while waiting := self._backend.pending():
            await self._backend.arun_now(waiting[0])
            _raise_failure(waiting[0])
            done.append(waiting[0].snapshot())
        return done

    def clear(self) -> None:
        """Forget everything, without running it."""
        self._backend.clear()

    def assert_enqueued(self, fn: AnyBackgroundFunction, *args: Any, **kwargs: Any) -> Enqueued:
        """Return the first call of ``fn`` with these arguments; without arguments, its first call at all.

        Raises AssertionError if there is none.
        """
        found = self._records_of(fn)
        for record in found:
            if not (args or kwargs) or _same_call(record, args, kwargs):
                return _enqueued(record)
        calls = [decode(record.arguments) for record in found]
        wanted = f" with {args} {kwargs}" if args or kwargs else ""
        raise AssertionError(f"{fn!r} was not enqueued{wanted}; its calls were {calls or 'none'}")

    def assert_not_enqueued(self, fn: AnyBackgroundFunction) -> None:
        """Raises AssertionError if ``fn`` was enqueued."""
        found = self._records_of(fn)
        if found:
            raise AssertionError(f"{fn!r} was enqueued: {[decode(record.arguments) for record in found]}")

    def _records_of(self, fn: AnyBackgroundFunction) -> list[Record]:
        return [record for record in self._backend.records() if record.request.definition is fn._definition]


@contextmanager
def inline() -> Iterator[None]:
    """Run every call of a background function at once, in the thread that makes it; failures are raised there."""
    with override(_InlineBackend()):
        yield


@contextmanager
def capture() -> Iterator[CapturedQueue]:
    """Keep what is enqueued instead of running it."""
    backend = _CaptureBackend()
    with override(backend):
        yield CapturedQueue(backend)


def _raise_failure(record: Record) -> None:
    if record.cause is not None and not record.request.awaited:
        raise record.cause


def _enqueued(record: Record) -> Enqueued:
    arguments, keywords = decode(record.arguments)
    request = record.request
    return Enqueued(
        id=record.id,
        function_name=record.name,
        arguments=tuple(arguments),
        keyword_arguments=keywords,
        scheduled_at=record.scheduled_at,
        metadata=dict(request.metadata),
        priority=request.priority,
        idempotency_key=request.idempotency_key,
        concurrency_key=request.concurrency_key,
        discard_at=request.discard_at,
        state=record.state,
    )


def _same_call(record: Record, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Equal as the function sees it: by position or by name, defaults given or not."""
    signature = inspect.signature(record.request.definition.fn)
    enqueued, wanted = decode(record.arguments), decode(encode([args, kwargs]))
    bound = [signature.bind(*positional, **named) for positional, named in (enqueued, wanted)]
    for each in bound:
        each.apply_defaults()
    return bound[0].arguments == bound[1].arguments
