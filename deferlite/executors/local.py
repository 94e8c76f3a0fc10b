"""Executions in processes of this machine: one warm runner per build."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType

import anyio

from deferlite.executors.base import BuildLocator, Order, Sink
from deferlite.executors.warm import WarmRunner
from deferlite.model.clock import Clock
from deferlite.model.execution import Ending
from deferlite.sandbox.levels import SandboxStatus
from deferlite.sandbox.removal import remove

LOOK_EVERY = 0.5
"""Seconds for which a runner's settings count as unedited."""

LAST_SECONDS = 3.0
"""Seconds that interrupted executions have to end before their runner is ended."""


class LocalExecutor:
    """An ``Executor``. ``scratch`` is a folder of its own; what is in it at the start is removed.

    Use as ``async with``: at the end no process is left.
    """

    def __init__(self, sink: Sink, status: SandboxStatus, builds: BuildLocator, scratch: Path, clock: Clock) -> None:
        self.sandbox = str(status.level)
        self._sink = sink
        self._status = status
        self._builds = builds
        self._scratch = scratch
        self._clock = clock
        self._runners: dict[str, WarmRunner] = {}
        self._outdated: list[WarmRunner] = []
        """Of builds whose settings were edited: they end what they run."""
        self._looked: dict[str, float] = {}
        self._held: dict[str, list[Order]] = {}
        """Orders that wait until their environment's settings have been looked at."""
        self._looks: set[asyncio.Task[None]] = set()
        self._changed = anyio.Event()
        self._count = 0
        self._stop_at: float | None = None

    async def __aenter__(self) -> LocalExecutor:
        await anyio.to_thread.run_sync(_empty, self._scratch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop(0)
            await anyio.to_thread.run_sync(_empty, self._scratch)

    async def warm(self, environment: str, build_id: str) -> None:
        self._runner(build_id).warm()

    def start(self, order: Order) -> None:
        build_id = order.build_id
        if build_id in self._held:
            self._held[build_id].append(order)
        elif self._stop_at is None and asyncio.get_running_loop().time() > self._looked.get(build_id, 0.0) + LOOK_EVERY:
            self._held[build_id] = [order]
            look = asyncio.get_running_loop().create_task(self._look(build_id))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
        else:
            self._runner(build_id).start(order)

    async def _look(self, build_id: str) -> None:
        """Replace the runner if the settings were edited since it was started; then go on with what was held."""
        try:
            runner = self._runners.get(build_id)
            if runner is not None and await runner.is_outdated() and self._runners.get(build_id) is runner:
                self._outdated.append(self._runners.pop(build_id))
                runner.release()
        finally:
            self._looked[build_id] = asyncio.get_running_loop().time()
            for order in self._held.pop(build_id):
                self._runner(build_id).start(order)

    def abort(self, execution_id: str, attempt: int) -> None:
        self._release_held(execution_id)
        for runner in self._all():
            runner.end((execution_id, attempt), Ending.ABORTED)

    def _release_held(self, execution_id: str) -> None:
        """Hand a held order over now, so that it can be ended as any other."""
        for build_id, orders in self._held.items():
            for order in [order for order in orders if order.id == execution_id]:
                orders.remove(order)
                self._runner(build_id).start(order)

    def _all(self) -> list[WarmRunner]:
        return [*self._runners.values(), *self._outdated]

    async def release(self, build_id: str) -> None:
        self._looked.pop(build_id, None)
        runner = self._runners.get(build_id)
        if runner is not None:
            runner.release()

    async def stop(self, drain: float) -> None:
        loop = asyncio.get_running_loop()
        # A second call, with less patience, hurries the first.
        self._stop_at = min(self._stop_at or float("inf"), loop.time() + drain)
        self._note()
        if self._looks:
            await asyncio.wait(self._looks)
        while self._busy() and loop.time() < self._stop_at:
            await self._wait(self._stop_at - loop.time())
        for runner in self._all():
            runner.interrupt()
        last = loop.time() + LAST_SECONDS
        while self._busy() and loop.time() < last:
            await self._wait(last - loop.time())
        async with anyio.create_task_group() as closing:
            for runner in self._all():
                closing.start_soon(runner.close)
        self._runners.clear()
        self._outdated.clear()

    def pids(self) -> dict[str, int]:
        """The process of each build's runner, by build."""
        return {build: pid for build, runner in self._runners.items() if (pid := runner.pid) is not None}

    def _runner(self, build_id: str) -> WarmRunner:
        runner = self._runners.get(build_id)
        if runner is None:
            self._count += 1
            folder = self._scratch / str(self._count)
            runner = WarmRunner(build_id, self._builds, self._status, folder, self._sink, self._note)
            self._runners[build_id] = runner
        return runner

    def _busy(self) -> bool:
        return any(runner.busy for runner in self._all())

    def _note(self) -> None:
        """Something has ended: forget released runners, wake a stop."""
        for build_id in [build_id for build_id, runner in self._runners.items() if runner.gone_for_good]:
            del self._runners[build_id]
        self._outdated = [runner for runner in self._outdated if not runner.gone_for_good]
        self._changed.set()

    async def _wait(self, seconds: float) -> None:
        self._changed = anyio.Event()
        with contextlib.suppress(TimeoutError), anyio.fail_after(seconds):
            await self._changed.wait()


def _empty(folder: Path) -> None:
    remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
