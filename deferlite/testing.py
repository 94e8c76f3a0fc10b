"""For the test suites of applications: background functions without a server and without waiting.

``inline()`` runs every call at once, in the same thread, and lets its failure out::

    with deferlite.testing.inline():
        register("ada@example.org")          # calls send_welcome(...), which runs here
    assert mail.outbox

``capture()`` runs nothing and keeps what was enqueued::

    with deferlite.testing.capture() as queue:
        register("ada@example.org")
        [call] = queue.executions
        assert (call.function_name, call.arguments) == ("send_welcome", ("ada@example.org",))
        queue.run_all()                      # now it runs, with whatever it enqueues itself

Both hold for the whole process, in all its threads, until the block ends; DEFER_TOKEN does not matter inside. Delays
are not waited for and failures are not retried.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deferlite.sdk.backends import override
from deferlite.sdk.executions import Execution, NewExecution
from deferlite.sdk.local import LocalBackend
from deferlite.sdk.local_record import Record
from deferlite.sdk.payload import decode


@dataclass(frozen=True)
class Enqueued:
    """One call that was enqueued, as a function would receive it."""

    id: str
    function_name: str
    arguments: tuple[Any, ...]
    keyword_arguments: Mapping[str, Any]
    scheduled_at: datetime
    discard_at: datetime | None
    metadata: Mapping[str, str]
    priority: int
    idempotency_key: str | None
    concurrency_key: str | None


class _ManualBackend(LocalBackend):
    """Starts nothing by itself. ``run_now`` raises what the function raises, unless somebody waits for the result."""

    _retries = False

    def _dispatch(self) -> None: ...

    def _begin(self, record: Record) -> None:
        self._waiting.remove(record)
        record.begin()

    def run_now(self, record: Record) -> Execution:
        self._begin(record)
        self._run(record)
        return _outcome(record)

    async def arun_now(self, record: Record) -> Execution:
        self._begin(record)
        with self._attempt(record):
            value = record.call()
            record.keep(await value if inspect.isawaitable(value) else value)
        return _outcome(record)


class _InlineBackend(_ManualBackend):
    """Runs at once what is enqueued."""

    def enqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        records = [self._accept(request) for request in requests]
        return [record.execution if record.attempts else self.run_now(record) for record in records]

    async def aenqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        records = [self._accept(request) for request in requests]
        return [record.execution if record.attempts else await self.arun_now(record) for record in records]

    def rerun(self, execution_id: str) -> Execution:
        return self.run_now(self._again(execution_id))


class _CaptureBackend(_ManualBackend):
    """Keeps what is enqueued. Who waits for a result gets it: that execution runs then."""

    def result(self, execution_id: str, timeout: float) -> Any:
        record = self._record(execution_id)
        if record.request.awaited and not record.attempts:
            self.run_now(record)
        return record.value()

    async def aresult(self, execution_id: str, timeout: float) -> Any:
        record = self._record(execution_id)
        if record.request.awaited and not record.attempts:
            await self.arun_now(record)
        return record.value()

    def records(self) -> list[Record]:
        return list(self._records.values())

    def next(self) -> Record | None:
        """The first in time and priority that has not run yet."""
        return min(self._waiting, key=_turn, default=None)


class CapturedQueue:
    """What was enqueued inside ``capture()``."""

    def __init__(self, backend: _CaptureBackend) -> None:
        self._backend = backend

    @property
    def executions(self) -> list[Enqueued]:
        """Everything enqueued inside the block, oldest first."""
        return [_enqueued(record) for record in self._backend.records()]

    def __len__(self) -> int:
        return len(self._backend.records())

    def run_all(self) -> list[Execution]:
        """Run what has not run yet, delayed ones too, until nothing is left, in order of time and priority.

        Raises what a function raises; the rest stays in the queue. Inside an event loop use ``arun_all``.
        """
        done = []
        while (record := self._backend.next()) is not None:
            done.append(self._backend.run_now(record))
        return done

    async def arun_all(self) -> list[Execution]:
        """``run_all`` for coroutines: async functions run in this event loop."""
        done = []
        while (record := self._backend.next()) is not None:
            done.append(await self._backend.arun_now(record))
        return done


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


def _outcome(record: Record) -> Execution:
    if record.cause is not None and not record.request.awaited:
        raise record.cause
    return record.execution


def _turn(record: Record) -> tuple[datetime, int, int]:
    return (record.execution.scheduled_at, *record.turn())


def _enqueued(record: Record) -> Enqueued:
    (arguments, keywords), options = decode(record.arguments), record.request.options
    return Enqueued(
        record.execution.id,
        record.lane[0],
        tuple(arguments),
        keywords,
        record.execution.scheduled_at,
        record.request.discard_at,
        options.metadata,
        options.priority,
        options.idempotency_key,
        options.concurrency_key,
    )
