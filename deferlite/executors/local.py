"""Executions in processes of this machine: one warm runner per build."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from types import TracebackType

import anyio

from deferlite.executors.base import BuildLocator, Order, Sink
from deferlite.executors.warm import WarmRunner
from deferlite.model.clock import Clock
from deferlite.model.execution import Ending
from deferlite.sandbox.levels import SandboxStatus

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
        self._where: dict[tuple[str, int], str] = {}
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
        self._runner(order.build_id).start(order)

    def abort(self, execution_id: str, attempt: int) -> None:
        for runner in list(self._runners.values()):
            runner.end((execution_id, attempt), Ending.ABORTED)

    async def release(self, build_id: str) -> None:
        runner = self._runners.get(build_id)
        if runner is not None:
            runner.release()

    async def stop(self, drain: float) -> None:
        loop = asyncio.get_running_loop()
        # A second call, with less patience, hurries the first.
        self._stop_at = min(self._stop_at or float("inf"), loop.time() + drain)
        self._note()
        while self._busy() and loop.time() < self._stop_at:
            await self._wait(self._stop_at - loop.time())
        for runner in list(self._runners.values()):
            runner.interrupt()
        last = loop.time() + LAST_SECONDS
        while self._busy() and loop.time() < last:
            await self._wait(last - loop.time())
        async with anyio.create_task_group() as closing:
            for runner in list(self._runners.values()):
                closing.start_soon(runner.close)
        self._runners.clear()

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
        return any(runner.busy for runner in self._runners.values())

    def _note(self) -> None:
        """Something has ended: forget released runners, wake a stop."""
        for build_id in [build_id for build_id, runner in self._runners.items() if runner.gone_for_good]:
            del self._runners[build_id]
        self._changed.set()

    async def _wait(self, seconds: float) -> None:
        self._changed = anyio.Event()
        with contextlib.suppress(TimeoutError), anyio.fail_after(seconds):
            await self._changed.wait()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
