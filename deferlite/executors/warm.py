"""The warm runner of one build: started when first wanted, kept while it is used, replaced when it dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import anyio

from deferlite.executors import outcomes
from deferlite.executors.base import BuildLocator, Order, Sink
from deferlite.model.errors import DeferliteError
from deferlite.model.execution import Ending, LogLine, Outcome, error_result
from deferlite.sandbox.launch import LaunchPlan
from deferlite.sandbox.levels import SandboxStatus
from deferlite.sandbox.removal import remove
from deferlite.sandbox.runner import Ended, Limits, Runner, base_variables

log = logging.getLogger(__name__)

IDLE = 600.0
"""Seconds after its last execution that a runner is kept."""

IMPORT_TIMEOUT = 120.0
"""Seconds the import of the modules may take."""

GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL."""

LAST_RESORT = 10.0
"""Seconds after which a runner that does not end an execution is ended itself."""

LONGEST_PAUSE = 30.0
"""Seconds between two starts of a runner that fails again and again."""

LOG_LIMIT = 2 * Limits().log
"""Characters of an execution's log that are taken from a runner; it cuts the log at half of it."""

Key = tuple[str, int]


class _Attempt:
    """An order and where it stands: without a runner yet, or sent."""

    __slots__ = ("logged", "order", "sent", "timer", "wanted")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.sent = False
        self.logged = 0
        self.timer: asyncio.TimerHandle | None = None
        self.wanted: Ending | None = None
        """The ending asked of the runner."""


class WarmRunner:
    """Implements ``RunnerEvents``. ``on_change`` is called when an attempt or the runner has ended."""

    def __init__(
        self,
        build_id: str,
        builds: BuildLocator,
        status: SandboxStatus,
        scratch: Path,
        sink: Sink,
        on_change: Callable[[], None],
    ) -> None:
        self._build_id = build_id
        self._builds = builds
        self._status = status
        self._scratch = scratch
        self._launches = 0
        self._sink = sink
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[Key, _Attempt] = {}
        self._plan: LaunchPlan | None = None
        self._variables: dict[str, str] = {}
        self._runner: Runner | None = None
        self._ready = False
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._importing: asyncio.TimerHandle | None = None
        self._released = False
        self._failures = 0
        self._error: str | None = None
        self._stopping = False
        """The runner ends because it was told to."""

    @property
    def busy(self) -> bool:
        return bool(self._attempts)

    @property
    def gone_for_good(self) -> bool:
        """Released, and nothing is left of it."""
        return self._released and not self._attempts and self._runner is None and self._task is None

    @property
    def pid(self) -> int | None:
        return self._runner.pid if self._runner is not None else None

    # What the executor asks for

    def warm(self) -> None:
        self._released = False
        self._ensure()

    async def is_outdated(self) -> bool:
        """Whether its build would be started in another way now, since its environment's settings were edited."""
        if self._plan is None or not self._ready:
            return False
        try:
            return await self._builds.locate(self._build_id) != self._plan
        except DeferliteError:
            return False

    def start(self, order: Order) -> None:
        attempt = self._attempts[order.id, order.attempt] = _Attempt(order)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._ready:
            self._send(attempt)
        else:
            self._ensure()

    def end(self, key: Key, ending: Ending) -> None:
        """End one attempt; nothing happens if it is not here."""
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        attempt.wanted = ending
        if attempt.sent and self._runner is not None:
            self._runner.kill(*key, str(ending), GRACE)
            if attempt.timer is not None:
                attempt.timer.cancel()
            attempt.timer = self._loop.call_later(LAST_RESORT, self._runner.end)
        else:
            self._finish(key, outcomes.ended_outside(ending, attempt.order.max_duration))

    def release(self) -> None:
        self._released = True
        self._settle()

    def interrupt(self) -> None:
        for key in list(self._attempts):
            self.end(key, Ending.INTERRUPTED)

    async def close(self) -> None:
        """End the runner, whatever runs; attempts still here end as INTERRUPTED."""
        self._released = self._stopping = True
        for attempt in self._attempts.values():
            attempt.wanted = attempt.wanted or Ending.INTERRUPTED
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._runner is not None:
            await self._runner.stop()
        self._end_all(lambda attempt: outcomes.ended_outside(Ending.INTERRUPTED, attempt.order.max_duration))
        self._cancel_timers()

    # Its life

    def _ensure(self) -> None:
        if self._runner is None and self._task is None and not self._stopping:
            self._task = self._loop.create_task(self._launch())

    async def _launch(self) -> None:
        try:
            if self._failures:
                await asyncio.sleep(min(0.1 * 2**self._failures, LONGEST_PAUSE))
            self._plan = await self._builds.locate(self._build_id)
            self._variables = base_variables(self._plan)
            self._launches += 1
            scratch = self._folder()
            await anyio.Path(scratch).mkdir(parents=True, exist_ok=True)
            limits = Limits(memory=self._plan.memory)
            runner = Runner(self._plan, self._status, scratch, limits, self)
            self._error = None
            self._runner = runner
            self._importing = self._loop.call_later(IMPORT_TIMEOUT, self._too_slow)
            await runner.start()
        except (DeferliteError, OSError) as error:
            reason = f"cannot start the runner of build {self._build_id}: {error}"
            self._fail(lambda attempt: outcomes.internal(reason))
        finally:
            self._task = None
            self._settle()

    def _folder(self) -> Path:
        """Of the present runner alone: what executions left in a dead one's is not for those that follow."""
        return self._scratch.with_name(f"{self._scratch.name}-{self._launches}")

    def _fail(self, told: Callable[[_Attempt], Outcome]) -> None:
        """The runner cannot be had: those who wait for it, or ran on it, are told."""
        self._failures += 1
        self._runner = None
        self._cancel_timers()
        self._end_all(told)

    def _too_slow(self) -> None:
        self._error = error_result("TimeoutError", f"importing the modules took longer than {IMPORT_TIMEOUT:g} s")
        if self._runner is not None:
            self._runner.end()

    def _send(self, attempt: _Attempt) -> None:
        order = attempt.order
        assert self._runner is not None
        attempt.sent = True
        attempt.timer = self._loop.call_later(order.max_duration, self.end, (order.id, order.attempt), Ending.TIMED_OUT)
        self._runner.run(
            order.id,
            order.attempt,
            module=order.module,
            attribute=order.attribute,
            env=self._variables | order.env,
            arguments=order.arguments.encode(),
            keyword_arguments=order.keyword_arguments.encode(),
        )

    def _settle(self) -> None:
        """Nothing runs: stop a released runner now, another one after a while."""
        if self._attempts:
            if self._runner is None:
                self._ensure()
            return
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(0.0 if self._released else IDLE, self._retire)

    def _retire(self) -> None:
        self._idle = None
        if self._attempts:
            return
        if self._runner is not None and self._task is None:
            self._ready = False
            self._stopping = True
            self._task = self._loop.create_task(self._stop_idle(self._runner))
        self._on_change()

    async def _stop_idle(self, runner: Runner) -> None:
        await runner.stop()
        self._task = None
        self._stopping = False
        # An order may have come meanwhile; it waits, since it was never sent.
        if self._attempts:
            self._ensure()
        self._on_change()

    def _finish(self, key: Key, outcome: Outcome) -> None:
        attempt = self._attempts.pop(key)
        if attempt.timer is not None:
            attempt.timer.cancel()
        self._sink.ended(*key, outcome)
        self._on_change()
        if not self._attempts:
            self._settle()

    def _end_all(self, told: Callable[[_Attempt], Outcome]) -> None:
        for key, attempt in list(self._attempts.items()):
            if attempt.wanted is not None:
                self._finish(key, outcomes.ended_outside(attempt.wanted, attempt.order.max_duration))
            else:
                self._finish(key, told(attempt))

    def _cancel_timers(self) -> None:
        for timer in (self._idle, self._importing):
            if timer is not None:
                timer.cancel()
        self._idle = self._importing = None

    # RunnerEvents

    def ready(self, fork: bool, reason: str | None, seconds: float) -> None:
        log.debug(
            "runner of build %s is ready after %.3f s%s", self._build_id, seconds, f": {reason}" if reason else ""
        )
        self._failures = 0
        self._ready = True
        if self._importing is not None:
            self._importing.cancel()
        for attempt in list(self._attempts.values()):
            self._send(attempt)

    def failed(self, error: bytes) -> None:
        self._error = outcomes.error_text(error)

    def logged(self, execution_id: str, attempt: int, lines: list[LogLine]) -> None:
        found = self._attempts.get((execution_id, attempt))
        # Lines of an execution that is not here, or more than the runner lets through, are forged.
        if found is not None and found.logged <= LOG_LIMIT:
            found.logged += sum(len(line.text) + 1 for line in lines)
            self._sink.logged(execution_id, attempt, lines)

    def ended(self, end: Ended) -> None:
        key = end.id, end.attempt
        attempt = self._attempts.get(key)
        if attempt is not None and self._plan is not None:
            self._finish(key, outcomes.outcome(end, attempt.order.max_duration, self._plan.memory))

    def printed(self, text: str) -> None:
        log.debug("runner of build %s: %s", self._build_id, text.rstrip())

    def gone(self, reason: str, importing: bool) -> None:
        self._loop.run_in_executor(None, remove, self._folder())
        self._runner = None
        self._ready = False
        self._cancel_timers()
        if self._stopping:
            return
        error = self._error
        if error is None and importing:
            error = error_result("ImportError", f"importing the modules ended the process: {reason}")
        if error is not None:
            self._fail(lambda attempt: outcomes.raised(error))
        else:
            log.warning("runner of build %s: %s", self._build_id, reason)
            self._fail(lambda attempt: outcomes.internal(reason))
