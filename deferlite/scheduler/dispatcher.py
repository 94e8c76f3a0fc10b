"""The dispatcher: claims what may run, hands it to the executor, writes down how it ended.

Two loops and no task per execution. The claim loop reads the slots, claims in one transaction and orders; the finish
loop stores every ending that has arrived meanwhile in one transaction. The slot of an execution that has ended is free
at once: the claim that takes it is committed behind the ending or together with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

import anyio

from deferlite.bus import Bell, Bus
from deferlite.executors.base import Executor
from deferlite.model.events import (
    AbortRequested,
    BuildPublished,
    EnvironmentChanged,
    Event,
    ExecutionsEnqueued,
    ParentParked,
    ParentReady,
    ParentResumed,
)
from deferlite.model.execution import Claimed, Ending, LogLine, Outcome, State, error_result
from deferlite.probes import crash_point
from deferlite.scheduler.lanes import LaneKeeper
from deferlite.scheduler.orders import OrderBook
from deferlite.scheduler.slots import Holder, Slots
from deferlite.store import Store, Want

log = logging.getLogger(__name__)


class Dispatcher:
    """The executor's ``Sink`` and the store's claimer."""

    def __init__(self, store: Store, bus: Bus, orders: OrderBook, *, limit: int, boot_id: str) -> None:
        self._store = store
        self._bus = bus
        self._orders = orders
        self._boot_id = boot_id
        self._slots = Slots(limit)
        self._lanes = LaneKeeper(store, self._slots)
        self._running: dict[str, tuple[Claimed, Holder]] = {}
        self._resuming: list[str] = []
        self._early_aborts: set[str] = set()
        self._endings: list[tuple[str, int, Outcome]] = []
        self._lines: dict[tuple[str, int], list[LogLine]] = {}
        self._claim_bell = Bell()
        self._finish_bell = Bell()
        self._claiming = True
        self._claim_lock = anyio.Lock()
        self._idle = anyio.Event()

    # The executor's sink

    def logged(self, execution_id: str, attempt: int, lines: list[LogLine]) -> None:
        self._lines.setdefault((execution_id, attempt), []).extend(lines)
        self._finish_bell.ring()

    def ended(self, execution_id: str, attempt: int, outcome: Outcome) -> None:
        crash_point("result.received")
        self._endings.append((execution_id, attempt, outcome))
        self._finish_bell.ring()

    # The loops

    async def run(self, executor: Executor) -> None:
        """Dispatch until cancelled. Cancel it only after ``drain``: endings that arrive later are not stored."""
        with ExitStack() as stack:
            for kind, listener in (
                (ExecutionsEnqueued, self._on_enqueued),
                (BuildPublished, self._on_environment),
                (EnvironmentChanged, self._on_environment),
                (ParentParked, self._on_parked),
                (ParentReady, self._on_ready),
            ):
                stack.enter_context(self._bus.listening(kind, listener))  # type: ignore[arg-type]
            stack.enter_context(self._bus.listening(AbortRequested, lambda event: self._on_abort(event, executor)))
            await self._lanes.load()
            async with anyio.create_task_group() as loops:
                loops.start_soon(self._claim_loop, executor)
                loops.start_soon(self._finish_loop)

    async def drain(self, executor: Executor, seconds: float) -> None:
        """Claim nothing more, let what runs end for ``seconds``, end the rest as interrupted, store it all."""
        async with self._claim_lock:
            # What is claimed now is ordered first: a start after the executor's stop would never be told its end.
            self._claiming = False
        crash_point("drain.during")
        await executor.stop(seconds)
        while self._running:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _claim_loop(self, executor: Executor) -> None:
        while True:
            for build_id in await self._lanes.refresh(self._busy):
                await executor.release(build_id)
            await self._warm(executor)
            self._resume_parents()
            async with self._claim_lock:
                again = self._claiming and await self._claim(executor)
            if not again:
                if self._claiming:
                    await self._cancel_excess()
                await self._claim_bell.wait()

    def _busy(self) -> set[str]:
        return {claimed.environment for claimed, _ in self._running.values()}

    async def _warm(self, executor: Executor) -> None:
        for environment, build_id in self._lanes.fresh_builds():
            await executor.warm(environment, build_id)

    async def _claim(self, executor: Executor) -> bool:
        """Claim and order what the slots allow; False if there was nothing to hope for.

        Functions whose claim was in vain have lost hope, so that it is the turn of others.
        """
        wants = [Want(lane.environment, function_id, slots) for lane, function_id, slots in self._slots.shares()]
        if not wants:
            return False
        for want in wants:
            # Before the claim: what is enqueued during it raises hope again.
            self._slots.lane(want.environment).hopeful.pop(want.function_id, None)
        parked = [id for id, (_, holder) in self._running.items() if not holder.holds]
        claimed = await self._store.executions.claim(wants, self._boot_id, executor.sandbox, parked)
        self._keep_hope(wants, claimed)
        for item in claimed:
            holder = Holder(item.environment, item.function_id, item.concurrency_key)
            self._slots.take(holder)
            self._running[item.id] = (item, holder)
        for item in claimed:
            await self._order(item, executor)
        return True

    def _keep_hope(self, wants: Sequence[Want], claimed: Sequence[Claimed]) -> None:
        got: dict[str, int] = {}
        for item in claimed:
            got[item.function_id] = got.get(item.function_id, 0) + 1
        for want in wants:
            if got.get(want.function_id, 0) >= want.slots:
                self._slots.lane(want.environment).hope((want.function_id,))

    async def _order(self, claimed: Claimed, executor: Executor) -> None:
        try:
            build = await self._lanes.build(claimed.build_id)
            spec = build.functions[claimed.function_name]
        except Exception as error:
            log.exception("execution %s cannot be started", claimed.id)
            self._refuse(claimed, f"the build {claimed.build_id} cannot run it: {error}")
            return
        lane = self._slots.lane(claimed.environment)
        options = lane.options.get(claimed.function_id, spec.options)
        variables = self._lanes.variables(claimed.environment)
        max_duration = options.max_duration or lane.run.max_duration
        crash_point("spawn.before")
        executor.start(self._orders.write(claimed, spec, build.commit, variables, max_duration))
        crash_point("spawn.after")
        self._running[claimed.id][1].ordered = True
        if claimed.id in self._early_aborts:
            self._early_aborts.discard(claimed.id)
            executor.abort(claimed.id, claimed.attempt)

    def _refuse(self, claimed: Claimed, message: str) -> None:
        self._early_aborts.discard(claimed.id)
        result = error_result("InternalError", message)
        self.ended(claimed.id, claimed.attempt, Outcome(ending=Ending.INTERNAL, result=result))

    async def _cancel_excess(self) -> None:
        """maxConcurrencyAction ``cancel``: what comes due while the function is at its limit is not kept."""
        for lane in self._slots.lanes.values():
            for function_id in tuple(lane.hopeful):
                options = lane.options.get(function_id)
                if options and options.max_concurrency_action == "cancel" and lane.free_of(function_id) <= 0:
                    # Before the write, for the same reason as in _claim.
                    lane.hopeful.pop(function_id, None)
                    await self._store.executions.cancel_excess(function_id)

    async def _finish_loop(self) -> None:
        while True:
            await self._finish_bell.wait()
            lines, self._lines = self._lines, {}
            endings, self._endings = self._endings, []
            async with anyio.create_task_group() as batch:
                # Handed to the writer in this order and committed together: no end is seen before its last line.
                for (execution_id, attempt), said in lines.items():
                    batch.start_soon(self._store.logs.append, execution_id, attempt, said)
                if endings:
                    batch.start_soon(self._finish, endings)

    async def _finish(self, endings: list[tuple[str, int, Outcome]]) -> None:
        entries = [entry for execution_id, _, _ in endings if (entry := self._running.get(execution_id))]
        for _, holder in entries:
            self._give_back(holder)
        self._claim_bell.ring()
        # The claim that takes these slots is handed to the writer behind this, so the record keeps the limits too.
        finished = await self._store.executions.finish(endings)
        for claimed, holder in entries:
            del self._running[claimed.id]
            # Again: its call may have been given a slot to resume with in the meantime.
            self._give_back(holder)
        for execution in finished:
            if execution.state is State.CREATED:
                self._slots.lane(execution.environment).hope((execution.function_id,))
        if not self._running:
            self._idle.set()
        self._claim_bell.ring()

    def _give_back(self, holder: Holder) -> None:
        self._slots.give_back(holder)
        if holder.key is not None:
            # Whoever waits for the key may be of any function of the environment.
            lane = self._slots.lane(holder.environment)
            lane.hope(lane.options)

    # Hints

    def _on_enqueued(self, event: ExecutionsEnqueued) -> None:
        self._slots.lane(event.environment).hope(event.function_ids)
        self._claim_bell.ring()

    def _on_environment(self, event: Event) -> None:
        self._lanes.stale(event.environment)
        self._claim_bell.ring()

    def _on_abort(self, event: AbortRequested, executor: Executor) -> None:
        entry = self._running.get(event.execution_id)
        if entry is None or not entry[1].ordered:
            # Claimed, but not handed to the executor yet: the abort follows the start.
            self._early_aborts.add(event.execution_id)
        else:
            executor.abort(event.execution_id, entry[0].attempt)

    # Parents that wait for their children give their slot back meanwhile, so that no workflow can deadlock.

    def _on_parked(self, event: ParentParked) -> None:
        if entry := self._running.get(event.execution_id):
            entry[1].waits += 1
            self._give_back(entry[1])
            self._claim_bell.ring()

    def _on_ready(self, event: ParentReady) -> None:
        entry = self._running.get(event.execution_id)
        if entry is not None:
            entry[1].waits -= event.parked
            if entry[1].waits == 0 and not entry[1].holds:
                self._resuming.append(event.execution_id)
                self._claim_bell.ring()
                return
        # While other calls of it still wait, it holds no slot and needs none.
        self._bus.publish(ParentResumed(environment=event.environment, execution_id=event.execution_id))

    def _resume_parents(self) -> None:
        waiting, self._resuming = self._resuming, []
        for execution_id in waiting:
            entry = self._running.get(execution_id)
            if entry is None or entry[1].waits or entry[1].holds:
                self._publish_resumed(execution_id)
            elif self._slots.has_room_for(entry[1]):
                self._slots.take(entry[1])
                self._publish_resumed(execution_id)
            else:
                self._resuming.append(execution_id)

    def _publish_resumed(self, execution_id: str) -> None:
        entry = self._running.get(execution_id)
        environment = entry[0].environment if entry else ""
        self._bus.publish(ParentResumed(environment=environment, execution_id=execution_id))
