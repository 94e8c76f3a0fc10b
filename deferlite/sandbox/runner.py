"""The server's half of the runner protocol (deferlite/runner/run.py): one runner process and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from typing import Any, Protocol

import anyio
import msgspec

from deferlite.model.execution import LogLine
from deferlite.sandbox.box import SYSTEM_PATH, Box, wrap
from deferlite.sandbox.child import Child
from deferlite.sandbox.frames import Frames, Header, frame, lines
from deferlite.sandbox.launch import LaunchPlan
from deferlite.sandbox.levels import SandboxStatus

PROGRAM = Path(__file__).parent.parent / "runner" / "run.py"

PATIENCE = 5.0
"""Seconds a runner has to end its processes after its stream was closed."""

LAST_WORDS = 1.0
"""Seconds the stream may stay open after the process has ended."""

TAIL = 4096
"""Bytes kept of what a runner itself printed, to explain its death."""

SLACK = 1024 * 1024
"""Bytes that a payload may have besides the longest result."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one execution; bytes, but ``files`` open at once."""

    memory: int = 512 * 1024 * 1024
    log: int = 1024 * 1024
    result: int = 8 * 1024 * 1024
    file_size: int = 2 * 1024 * 1024 * 1024
    files: int = 4096


class Ended(msgspec.Struct, frozen=True):
    """An ``ended`` frame. ``payload`` is the result, or the error object of ``raised``; else empty."""

    id: str
    attempt: int
    ending: str
    cpu_time: float
    memory_peak: int
    payload: bytes = b""


class RunnerEvents(Protocol):
    """What a runner reports, on the event loop. ``gone`` is the last call, exactly once after a good ``start``."""

    def ready(self, fork: bool, reason: str | None, seconds: float) -> None: ...

    def failed(self, error: bytes) -> None:
        """The modules cannot be imported: the error object, as it came."""
        ...

    def logged(self, execution_id: str, attempt: int, lines: list[LogLine]) -> None: ...

    def ended(self, end: Ended) -> None: ...

    def printed(self, text: str) -> None:
        """Output of the runner itself, as while modules are imported."""
        ...

    def gone(self, reason: str, importing: bool) -> None:
        """The process is gone; ``importing``: it was importing the user's modules when it ended."""
        ...


class Runner(asyncio.Protocol):
    """One runner. ``scratch`` is a folder of its own, which must exist."""

    def __init__(
        self, plan: LaunchPlan, status: SandboxStatus, scratch: Path, limits: Limits, events: RunnerEvents
    ) -> None:
        self._plan = plan
        self._status = status
        self._scratch = scratch
        self._limits = limits
        self._events = events
        self._frames = Frames(limits.result + SLACK)
        self._stream: asyncio.Transport | None = None
        self._child: Child | None = None
        self._status_code = 0
        self._importing = False
        self._exited = False
        self._said = b""
        self._broken = ""
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """Of the process that was started: bwrap's, or the runner's own without a box."""
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        """Start the process and tell it its configuration; it then reports by ``events``.

        Raises:
            SandboxError: the process cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            argv, box = await anyio.to_thread.run_sync(self._command, theirs.fileno())
            self._child = Child(
                argv,
                cwd=box.cwd,
                env=box.env,
                heard=self._printed,
                ended=self._exit,
                merged=True,
                pass_fds=(theirs.fileno(),),
            )
            self._stream, _ = await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._stream.write(frame(self._configuration()))

    def run(
        self,
        execution_id: str,
        attempt: int,
        *,
        module: str,
        attribute: str,
        env: dict[str, str],
        arguments: bytes,
        keyword_arguments: bytes,
    ) -> None:
        header = {
            "type": "start",
            "id": execution_id,
            "attempt": attempt,
            "module": module,
            "attribute": attribute,
            "env": env,
            "arguments": len(arguments),
        }
        self._send(header, arguments + keyword_arguments)

    def kill(self, execution_id: str, attempt: int, ending: str, grace: float) -> None:
        """End an execution's tree: SIGTERM, after ``grace`` seconds SIGKILL; ``ended`` then says ``ending``."""
        self._send({"type": "kill", "id": execution_id, "attempt": attempt, "ending": ending, "grace": grace})

    async def stop(self) -> None:
        """End the runner and everything it started; returns when it is gone."""
        if self._child is None:
            return
        if self._stream is not None:
            self._stream.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._closed), PATIENCE)
            return
        self.end()
        await self._closed

    def end(self) -> None:
        """SIGKILL: at level bubblewrap the namespace's end takes everything with it."""
        if self._child is not None:
            self._child.kill()

    # asyncio.Protocol, of the stream

    def data_received(self, data: bytes) -> None:
        try:
            for header, payload in self._frames.feed(data):
                self._heard(header, payload)
        except ValueError as error:  # Also what msgspec raises.
            self._broken = f"the runner's process wrote to its stream what is not of the protocol: {error}"
            self._frames.clear()
            if self._stream is not None:
                self._stream.abort()
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream = None
        if self._exited:
            self._gone()
        else:
            # Without its stream it ends by itself; a runner that does not is ended.
            asyncio.get_running_loop().call_later(PATIENCE, self.end)

    def _heard(self, header: Header, payload: bytes) -> None:
        if header.type == "ended":
            self._events.ended(
                Ended(header.id, header.attempt, header.ending, header.cpu_time, header.memory_peak, payload)
            )
        elif header.type == "log":
            self._events.logged(header.id, header.attempt, lines(header.time, header.stream, header.level, payload))
        elif header.type == "ready":
            self._importing = False
            self._events.ready(header.fork, header.reason, header.seconds)
        elif header.type == "importing":
            self._importing = True
        elif header.type == "failed":
            self._importing = False
            self._events.failed(payload)
        elif header.type == "broken":
            self._broken = header.message

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        if self._stream is not None:
            self._stream.write(frame(header, payload))

    def _configuration(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "type": "configure",
            "modules": plan.modules,
            "path": [str(path) for path in plan.path],
            "project": str(plan.project),
            "workdir": plan.workdir,
            "scratch": str(self._scratch),
            "django": plan.django_settings,
            "limits": msgspec.to_builtins(self._limits),
        }

    def _command(self, descriptor: int) -> tuple[list[str], Box]:
        argv = [str(self._plan.interpreter), str(PROGRAM), str(descriptor)]
        box = runner_box(self._plan, self._scratch)
        return wrap(self._status, box, argv, as_init=True), box

    def _printed(self, stream: str, data: bytes) -> None:
        self._said = (self._said + data)[-TAIL:]
        self._events.printed(data.decode(errors="replace"))

    def _exit(self, status: int) -> None:
        """The process has ended; what it wrote last may still be in the stream."""
        self._exited = True
        self._status_code = status
        if self._stream is None:
            self._gone()
        else:
            asyncio.get_running_loop().call_later(LAST_WORDS, self._gone)

    def _gone(self) -> None:
        if self._closed.done() or self._child is None:
            return
        self._closed.set_result(None)
        self._child.close()
        if self._stream is not None:
            self._stream.abort()
        self._events.gone(self._broken or explain(self._status_code, self._said), self._importing)


def runner_box(plan: LaunchPlan, scratch: Path) -> Box:
    """What the executions of a build see."""
    mounts = [mount.rpartition(":") if mount.endswith(":rw") else (mount, "", "") for mount in plan.mounts]
    read_only = [plan.project, *plan.import_paths, *plan.read_only, PROGRAM.parent]
    return Box(
        read_only=tuple(dict.fromkeys([*read_only, *(Path(folder) for folder, _, mode in mounts if not mode)])),
        writable=(scratch, *(Path(folder) for folder, _, mode in mounts if mode)),
        hidden=plan.hidden,
        network=plan.network,
        cwd=plan.project,
        env=base_variables(plan),
    )


def base_variables(plan: LaunchPlan) -> dict[str, str]:
    """What every process of the build has besides an execution's own variables."""
    path = f"{plan.interpreter.parent}:{SYSTEM_PATH}"
    return {"LANG": "C.UTF-8", "TZ": "UTC", "PATH": path} | plan.environment


def explain(status: int, said: bytes = b"") -> str:
    """The death of a runner in words; ``status`` as asyncio gives it, ``said`` what it printed last."""
    # bwrap ends with 128 + N when its command was ended by signal N.
    number = -status if status < 0 else status - 128 if status > 128 else 0
    try:
        how = f"signal {number} ({signal.Signals(number).name})" if number else f"exit status {status}"
    except ValueError:
        how = f"exit status {status}"
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    return f"the runner ended unexpectedly: {how}" + (f": {last}" if last else "")
