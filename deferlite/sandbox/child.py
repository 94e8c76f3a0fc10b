"""One process started by the server: its output and its end as callbacks on the event loop.

The standard library's Popen starts it, since it closes every other descriptor; event loops differ in that. It runs
in the loop's own thread: the kernel's parent-death signal, which boxes rely on, follows the thread that started them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from deferlite.model.errors import SandboxError
from deferlite.sandbox.trees import kill_group, kill_tree

CHUNK = 64 * 1024


class Child:
    """``heard`` gets ``stdout`` or ``stderr`` and bytes; with ``merged`` all is stdout.

    When the process ends, what is left of its tree is killed first; ``ended`` is then called with the exit
    status, negative for a signal. ``trusted``: what it starts stays in its group, so nothing has to be searched for.
    ``given`` is all that it can read from stdin.

    Raises:
        SandboxError: the program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        heard: Callable[[str, bytes], None],
        ended: Callable[[int], None],
        merged: bool = False,
        pass_fds: Sequence[int] = (),
        trusted: bool = False,
        given: bytes = b"",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard = heard
        self._ended = ended
        self._trusted = trusted
        self._sweep: asyncio.Future[None] | None = None
        self._last: asyncio.Task[None] | None = None
        self._pipes: dict[str, IO[bytes]] = {}
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the output has come to its end."""
        self._process = _started(argv, cwd, env, merged, pass_fds, given)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        for name, pipe in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._pipes[name] = pipe
                self._loop.add_reader(pipe.fileno(), self._read, name)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        """SIGKILL to the whole tree, which has happened when ``ended`` is called."""
        if self.running and self._trusted:
            kill_group(self.pid)
        elif self.running and self._sweep is None:
            self._sweep = self._kill_tree()

    def ask_to_end(self) -> None:
        """SIGTERM to the process itself."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """Let go of what is still open of the output."""
        for name in tuple(self._pipes):
            self._close(name)

    def _read(self, name: str) -> None:
        data: bytes | None = b""
        with contextlib.suppress(OSError):
            data = self._pipes[name].read(CHUNK)
        if data:
            self._heard(name, data)
        elif data is not None:
            self._close(name)

    def _close(self, name: str) -> None:
        pipe = self._pipes.pop(name)
        self._loop.remove_reader(pipe.fileno())
        pipe.close()
        if not self._pipes and not self.closed.done():
            self.closed.set_result(None)

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._trusted:
            kill_group(self.pid)
            self._ended(self._process.wait())
        else:
            self._last = self._loop.create_task(self._end())

    async def _end(self) -> None:
        if self._sweep is not None:
            await self._sweep
        # Before it is reaped: until then its number belongs to nobody else.
        await self._kill_tree()
        self._ended(self._process.wait())

    def _kill_tree(self) -> asyncio.Future[None]:
        # In a thread: it reads all of /proc.
        return self._loop.run_in_executor(None, kill_tree, self.pid)


def _started(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], merged: bool, pass_fds: Sequence[int], given: bytes
) -> subprocess.Popen[bytes]:
    stdin = _memory(given) if given else subprocess.DEVNULL
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            cwd=cwd,
            env=dict(env),
            pass_fds=pass_fds,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise SandboxError(f"cannot start {argv[0]}: {error.strerror or error}") from error
    finally:
        if given:
            os.close(stdin)


def _memory(content: bytes) -> int:
    """A file of memory alone, at its beginning: unlike a pipe it takes any length at once."""
    descriptor = os.memfd_create("given", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
