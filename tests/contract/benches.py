"""A sink that remembers, plans written by hand, and an executor with both."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from deferlite.executors.base import LaunchPlan, Order
from deferlite.executors.local import LocalExecutor
from deferlite.model.errors import NotFound
from deferlite.model.execution import LogLine, Outcome
from deferlite.sandbox.box import interpreter_folders

REPOSITORY = Path(__file__).parents[2]
MISBEHAVING = REPOSITORY / "examples" / "misbehaving"


class Recorder:
    """A ``Sink`` that remembers."""

    def __init__(self) -> None:
        self.lines: dict[str, list[LogLine]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._events: dict[str, anyio.Event] = {}

    def logged(self, execution_id: str, attempt: int, lines: list[LogLine]) -> None:
        self.lines.setdefault(execution_id, []).extend(lines)
        self._event(f"line {execution_id}").set()

    def ended(self, execution_id: str, attempt: int, outcome: Outcome) -> None:
        assert execution_id not in self.outcomes, "ended twice"
        self.outcomes[execution_id] = outcome
        self._event(f"end {execution_id}").set()

    async def outcome(self, execution_id: str) -> Outcome:
        with anyio.fail_after(30):
            await self._event(f"end {execution_id}").wait()
        return self.outcomes[execution_id]

    async def first_line(self, execution_id: str) -> LogLine:
        with anyio.fail_after(30):
            await self._event(f"line {execution_id}").wait()
        return self.lines[execution_id][0]

    def texts(self, execution_id: str, stream: str) -> list[str]:
        return [line.text for line in self.lines.get(execution_id, []) if line.stream == stream]

    def _event(self, name: str) -> anyio.Event:
        return self._events.setdefault(name, anyio.Event())


class Plans:
    """A ``BuildLocator`` of hand-written plans; every process of theirs carries ``mark``."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._plans: dict[str, LaunchPlan] = {}

    def add(self, build_id: str, project: Path, *modules: str, **changes: Any) -> None:
        plan = LaunchPlan(
            interpreter=Path(sys.executable),
            project=project,
            modules=modules,
            import_paths=(REPOSITORY,),
            environment={"DEFERLITE_TEST_MARK": self.mark},
        )
        plan = msgspec.structs.replace(plan, **changes)
        shown = (*plan.read_only, *interpreter_folders(plan.interpreter))
        self._plans[build_id] = msgspec.structs.replace(plan, read_only=shown)

    async def locate(self, build_id: str) -> LaunchPlan:
        if build_id not in self._plans:
            raise NotFound(f"no build {build_id}")
        return self._plans[build_id]

    def processes(self) -> list[int]:
        """All living processes that carry the mark."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and self._marks(entry)]

    async def until_none(self) -> None:
        """Return when they are all gone: the kernel tells nobody, so this looks again and again."""
        with anyio.fail_after(10):
            while self.processes():  # noqa: ASYNC110
                await anyio.sleep(0.01)

    def _marks(self, process: Path) -> bool:
        try:
            return self.mark.encode() in (process / "environ").read_bytes()
        except OSError:
            return False


class Bench:
    """An executor with its recorder and its plans."""

    def __init__(self, executor: LocalExecutor, sink: Recorder, plans: Plans) -> None:
        self.executor = executor
        self.sink = sink
        self.plans = plans
        self._count = 0

    def start(self, attribute: str, *arguments: object, build: str = "misbehaving", **changes: Any) -> str:
        self._count += 1
        order = Order(
            id=f"{attribute}-{self._count}",
            attempt=1,
            environment="test",
            build_id=build,
            function_name=attribute,
            module=changes.pop("module", build),
            attribute=attribute,
            arguments=json.dumps(arguments),
            max_duration=changes.pop("max_duration", 30.0),
        )
        self.executor.start(msgspec.structs.replace(order, **changes))
        return order.id

    async def run(self, attribute: str, *arguments: object, **changes: Any) -> Outcome:
        return await self.sink.outcome(self.start(attribute, *arguments, **changes))


MakeBench = Callable[[Plans], AbstractAsyncContextManager[Bench]]
