"""Executions: enqueue, read, steer, and what the scheduler does with them.

The operations themselves are in ``enqueueing``, ``running``, ``steering`` and ``timing``; here each is handed to the
writer, or answered by a reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio

from deferlite.model.errors import NotFound
from deferlite.model.execution import TERMINAL, Attempt, Claimed, Execution, NewExecution, Outcome, State
from deferlite.store import enqueueing, listing, running, steering, timing
from deferlite.store.database import Database, Row
from deferlite.store.queries import ExecutionFilter, Page, PageRequest, Want
from deferlite.store.rows import to_attempt, to_execution
from deferlite.store.running import KeyTurns, RunningSet
from deferlite.store.statements import EXECUTIONS as SQL
from deferlite.store.waiting import Waiters


class Executions:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: RunningSet = set()
        self._key_turns: KeyTurns = {}
        self._waiters = Waiters(database.bus)

    # What applications ask for

    async def enqueue(
        self, environment: str, items: Sequence[NewExecution], *, executed_by: str = "api"
    ) -> list[Execution]:
        """Store all of ``items`` or none; one execution for each, in their order.

        A former name of a function that ``aliases`` tells is that function: the execution has its name of today.
        An ``idempotency_key`` that was used in the environment within 24 hours answers the execution it made then.

        Raises:
            UnknownFunction: the live build has no function of that name.
            Conflict: the environment has no live build yet, or is retired.
            NotFound: there is no such environment.
        """
        operation = partial(enqueueing.enqueue, environment=environment, items=tuple(items), executed_by=executed_by)
        return await self._database.write(operation, "enqueue")

    async def get(self, environment: str | None, id: str) -> Execution:
        """Raises NotFound; with an ``environment`` also for one of another environment."""
        return to_execution(await self._row("get", id, environment))

    async def arguments(self, id: str) -> tuple[str, str]:
        """JSON texts: the array of arguments, and the object of keyword arguments. Raises NotFound."""
        arguments, keyword_arguments = await self._row("arguments", id)
        return arguments, keyword_arguments

    async def result(self, id: str) -> str | None:
        """JSON text: the value, or of a failed one the ``ErrorObject``; None: there is none (yet). Raises NotFound."""
        (result,) = await self._row("result", id)
        return None if result is None else str(result)

    async def attempts(self, id: str, states: Sequence[State] = (), page: PageRequest | None = None) -> Page[Attempt]:
        """Newest first. Raises InvalidCursor; an unknown ``id`` has no attempts."""
        return await listing.page(self._database, listing.attempts(id, states), page or PageRequest(), to_attempt)

    async def attempt_result(self, id: str, number: int) -> str | None:
        """JSON text of what the attempt returned, or of its ``ErrorObject``; None: not ended. Raises NotFound."""
        row = await self._database.row(SQL["attempt_result"], (id, number))
        if row is None:
            raise NotFound(f'execution "{id}" has no attempt {number}')
        return None if row[0] is None else str(row[0])

    async def children(self, id: str) -> list[Execution]:
        """The first thousand executions that ``id`` enqueued, oldest first."""
        return [to_execution(row) for row in await self._database.rows(SQL["children"], (id,))]

    async def cancel(self, environment: str | None, id: str, force: bool) -> Execution:
        """created becomes cancelled; with ``force`` started becomes aborting and its process is told to end.

        Raises:
            NotFound: there is none of that id in the environment.
            AbortInProgress: it is aborting already, and ``force`` was asked.
            Conflict: any other state.
        """
        operation = partial(steering.cancel, environment=environment, id=id, force=force)
        return await self._database.write(operation, "cancel")

    async def reschedule(self, environment: str | None, id: str, scheduled_at: int | None) -> Execution:
        """Move one in state created to ``scheduled_at`` (None: now). Raises NotFound, Conflict."""
        operation = partial(steering.reschedule, environment=environment, id=id, scheduled_at=scheduled_at)
        return await self._database.write(operation)

    async def rerun(self, environment: str | None, id: str) -> Execution:
        """A new execution with the arguments, metadata, priority and concurrency key of ``id``, due now.

        Raises:
            NotFound: there is none of that id in the environment.
            UnknownFunction, Conflict: as ``enqueue``.
        """
        return await self._database.write(partial(steering.rerun, environment=environment, id=id), "enqueue")

    async def wait_ended(self, id: str, timeout: float) -> Execution:
        """The execution as soon as it has ended, or as it is after ``timeout`` seconds. Raises NotFound."""
        with self._waiters.ended(id) as ended:
            # Read after listening: an end in between is either seen here or heard there.
            execution = await self.get(None, id)
            if execution.state in TERMINAL:
                return execution
            with anyio.move_on_after(timeout):
                await ended.wait()
        return await self.get(None, id)

    # What the scheduler does

    async def claim(
        self, wants: Sequence[Want], boot_id: str, sandbox: str, parked: Sequence[str] = ()
    ) -> list[Claimed]:
        """Start up to ``slots`` due executions of each wanted function on its environment's live build.

        Highest priority first, then oldest. Nothing of a retired environment or an inactive function is started.

        Of an environment's executions with the same concurrency key one runs at a time, not counting those of
        ``parked`` ids. A claim looks at one row for each waiting key of a function, however many wait behind it, and
        at 1,000 keys at most: where more wait, their turn comes in the order of the keys.
        """
        operation = partial(
            running.claim,
            wants=tuple(wants),
            boot_id=boot_id,
            sandbox=sandbox,
            parked=tuple(parked),
            known=self._running,
            turns=self._key_turns,
        )
        return await self._database.write(operation, "claim")

    async def finish(self, endings: Sequence[tuple[str, int, Outcome]]) -> list[Execution]:
        """Write down how attempts (execution id, number) ended; the executions that this changed.

        An ending that does not belong to a running attempt changes nothing. A retry that the function's policy
        allows waits for its moment in state created; an interrupted one is due at once.
        """
        operation = partial(running.finish, endings=tuple(endings), known=self._running)
        return await self._database.write(operation, "result")

    async def promote(self, now: int) -> set[str]:
        """Make delayed executions due whose moment has come; the ids of their functions.

        Due ones of a function that is not part of the live build any more fail with a sentence.
        """
        functions, more = await self._database.write(partial(timing.promote, now=now))
        if more:
            await timing.settle_all(self._database)
        return functions

    async def discard(self, now: int) -> int:
        """Discard what has never started and whose ``discard_at`` has come; how many."""
        return await self._database.write(partial(timing.discard, now=now))

    async def cancel_excess(self, function_id: str) -> int:
        """Cancel what is due of a function that is at its limit (maxConcurrencyAction cancel); how many."""
        return await self._database.write(partial(steering.cancel_excess, function_id=function_id), "cancel")

    async def next_due(self) -> int | None:
        """The earliest moment at which ``promote``, ``discard`` or ``tick_cron`` has something to do."""
        rows = await self._database.rows(SQL["next_due"])
        return min((row[0] for row in rows if row[0] is not None), default=None)

    async def tick_cron(self, now: int) -> int:
        """Enqueue one execution for each cron function whose moment has come, for the latest one missed; how many."""
        return await self._database.write(partial(timing.tick_cron, now=now), "cron")

    async def recover(self, boot_id: str) -> list[Execution]:
        """At the start: put back what other boots than ``boot_id`` left running; the executions changed.

        started becomes created, counted as an interruption, or failed after the third; aborting becomes aborted.
        """
        changed = await self._database.write(partial(running.recover, boot_id=boot_id))
        await timing.settle_all(self._database)
        return changed

    async def is_running(self, id: str, attempt: int) -> bool:
        """Whether that attempt was claimed by this process and has not ended; answered from memory."""
        return (id, attempt) in self._running

    async def _row(self, query: str, id: str, environment: str | None = None) -> Row:
        row = await self._database.row(SQL[query], {"id": id, "environment": environment})
        if row is None:
            raise NotFound(f'cannot find execution "{id}"')
        return row

    async def list(self, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        """Newest first. Raises InvalidCursor, also for a page that asks for both ``first`` and ``last``."""
        return await listing.page(self._database, listing.executions(filter), page, to_execution)
