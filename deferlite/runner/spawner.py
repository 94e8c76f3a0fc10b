"""Where processes for executions come from: forks of the runner, or programs of their own that import ahead."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from os import close, dup2, fork, pidfd_open, pipe, posix_spawn, set_blocking, set_inheritable, setsid
from time import monotonic
from typing import NoReturn

from deferlite.runner import child
from deferlite.runner.execution import Process
from deferlite.runner.project import Project

MOST_SPARES = 8

_FOLDER_MODE = stat.S_IFDIR | 0o700

RELAX = 1.0
"""Seconds without a shortage after which one spare less is kept."""


class Spawner:
    """``program`` is run.py where the runner must not fork, else None; ``configure`` the frame as it came."""

    def __init__(self, project: Project, configure: bytes, program: str | None, scratch: str) -> None:
        self.forks = program is None
        self._project = project
        self._configure = configure
        self._program = program or ""
        self._scratch = scratch
        self._count = 0
        self._folders: list[str] = []
        """Empty scratch folders to use again: on a disk, making one costs more than a fork."""
        self._target = 1
        self._changed = monotonic()

    def wanted(self, waiting: int) -> int:
        """How many spares there should be while ``waiting`` orders have no process."""
        return max(self._target, min(waiting, MOST_SPARES))

    def short(self) -> None:
        """An order found no spare."""
        self._target = min(max(self._target, 1) * 2, MOST_SPARES)
        self._changed = monotonic()

    def lost(self) -> None:
        """A spare has failed: the next is made when there is an order for it."""
        self._target = 0

    def relax(self, now: float) -> None:
        if self._target > 1 and now - self._changed > RELAX:
            self._target -= 1
            self._changed = now

    def spawn(self, own: list[int]) -> Process:
        """A new spare; ``own`` are the runner's descriptors, closed in a fork."""
        scratch = self._folder()
        ours, theirs = (end.detach() for end in socket.socketpair())
        (out, out_end), (err, err_end) = pipe(), pipe()
        if self.forks:
            pid = fork()
            if pid == 0:
                self._become([*own, ours, out, err], theirs, out_end, err_end, scratch)
        else:
            pid = self._execute(theirs, out_end, err_end)
        for fd in (theirs, out_end, err_end):
            close(fd)
        for fd in (ours, out, err):
            set_blocking(fd, False)
        process = Process(pid, pidfd_open(pid), ours, out, err, scratch)
        if not self.forks:
            process.ready = False
            process.pending += self._configure[:-2] + b',"own_scratch":' + json.dumps(scratch).encode() + b"}\n"
        return process

    def _become(self, own: list[int], channel: int, out: int, err: int, scratch: str) -> NoReturn:
        try:
            for fd in own:
                close(fd)
            dup2(out, 1)
            dup2(err, 2)
            close(out)
            close(err)
            setsid()
            child.live(channel, self._project, scratch)
        finally:
            os._exit(child.BROKEN)

    def _execute(self, channel: int, out: int, err: int) -> int:
        set_inheritable(channel, True)
        return posix_spawn(
            sys.executable,
            [sys.executable, self._program, "--child", str(channel)],
            self._project.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)],
        )

    def _folder(self) -> str:
        if self._folders:
            return self._folders.pop()
        self._count += 1
        return f"{self._scratch}/{self._count}"

    def clean(self, scratch: str) -> int | None:
        """Empty an execution's folder; where there is something in it, the process id of the program that does it."""
        try:
            if os.lstat(scratch).st_mode == _FOLDER_MODE and not os.listdir(scratch):
                self._folders.append(scratch)
                return None
        except FileNotFoundError:
            self._folders.append(scratch)
            return None
        except OSError:
            pass
        for program in ("/bin/rm", "/usr/bin/rm"):
            if os.access(program, os.X_OK):
                return posix_spawn(program, [program, "-rf", "--", scratch], {})
        return None
