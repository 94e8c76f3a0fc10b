"""The runner's loop: one thread that hands orders to processes, reads their output and sees each tree to its end."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from os import close, getpid, pidfd_open, read, waitpid, write
from signal import SIGKILL, SIGTERM
from time import monotonic, sleep
from typing import Any, NoReturn

from deferlite.runner import trees
from deferlite.runner.execution import MOST_LINES, Order, Process, Stream, receive
from deferlite.runner.frames import Frames, frame
from deferlite.runner.project import Project
from deferlite.runner.spawner import Spawner

TICK = 0.05
"""Seconds between looks at memory and deadlines while something runs."""

LINGER = 5.0
"""Seconds a process may go on (threads, atexit) after its function has returned."""

SWEEP = 3.0
"""Seconds after which processes that do not die end the runner itself."""

HIGH_WATER = 4 * 1024 * 1024
"""Bytes waiting for the server at which output is left in the pipes."""


class Zygote:
    def __init__(self, control: int, frames: Frames, project: Project, spawner: Spawner) -> None:
        self._control = control
        self._frames = frames
        self._limits = project.limits
        self._spawner = spawner
        self._spares: deque[Process] = deque()
        self._running: dict[tuple[str, int], Process] = {}
        self._waiting: deque[Order] = deque()
        self._sweeping: list[tuple[Process, float]] = []
        self._out = bytearray()
        self._calls: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        # Output has a poll of its own inside the other one, so that it can be left alone as a whole.
        self._outputs = select.epoll()
        self._paused = False
        self._next_tick = 0.0
        # What the modules started when they were imported is theirs for good.
        self._kept = set(trees.children(getpid()))
        self._cleaners: dict[int, Process] = {}
        self._retired: dict[int, Process] = {}
        os.set_blocking(control, False)
        self._epoll.register(control, select.EPOLLIN)
        self._epoll.register(self._outputs.fileno(), select.EPOLLIN)

    def run(self) -> NoReturn:
        while True:
            self._fill()
            self._write()
            for fd, event in self._epoll.poll(self._patience()):
                if fd == self._control:
                    self._serve_control(event)
                elif fd == self._outputs.fileno():
                    for ready, _ in self._outputs.poll(0):
                        self._call(ready)
                else:
                    self._call(fd)
            if self._sweeping:
                self._sweep()
            if monotonic() >= self._next_tick:
                self._tick()

    def tell(self, data: bytes) -> None:
        """Send a frame to the server, when it takes it."""
        self._out += data

    def _call(self, fd: int) -> None:
        call = self._calls.get(fd)
        if call is not None:
            call()

    def _patience(self) -> float | None:
        if self._sweeping:
            return 0.002
        if self._running or len(self._spares) > 1 or self._waiting:
            return max(self._next_tick - monotonic(), 0.0)
        return None

    # The server

    def _serve_control(self, event: int) -> None:
        if event & select.EPOLLIN or event & (select.EPOLLHUP | select.EPOLLERR):
            try:
                data = read(self._control, 1 << 20)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end()
            for header, payload, line in self._frames.feed(data):
                if header["type"] == "start":
                    self._start(Order(header["id"], header["attempt"], line + payload))
                elif header["type"] == "kill":
                    self._kill(header)

    def _write(self) -> None:
        if not self._out:
            return
        try:
            del self._out[: write(self._control, self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._end()
        want = select.EPOLLIN | (select.EPOLLOUT if self._out else 0)
        self._epoll.modify(self._control, want)
        paused = len(self._out) > HIGH_WATER
        if paused != self._paused:
            self._paused = paused
            self._epoll.modify(self._outputs.fileno(), 0 if paused else select.EPOLLIN)

    def _end(self) -> NoReturn:
        """The server is gone: so is everything here."""
        # The end of process 1 ends its whole namespace at one stroke, however fast something forks there.
        limit = monotonic() + (SWEEP if getpid() != 1 else 0.0)
        while monotonic() < limit and (below := trees.tree(getpid())[1:]):
            trees.kill_all(below)
            trees.reap(below)
            sleep(0.001)
        os._exit(0)

    # Orders

    def _start(self, order: Order) -> None:
        spare = next((spare for spare in self._spares if spare.ready), None)
        if spare is not None:
            self._spares.remove(spare)
        elif self._spawner.forks:
            self._spawner.short()
            spare = self._spawn()
        if spare is None:
            self._spawner.short()
            self._waiting.append(order)
        else:
            self._assign(spare, order)

    def _assign(self, process: Process, order: Order) -> None:
        for stream in process.streams:
            # What a spare printed while it imported belongs to no execution.
            while receive(stream.fd):
                pass
        process.order = order
        process.started = monotonic()
        self._running[order.id, order.attempt] = process
        process.pending += order.data
        self._push(process)
        if len(self._running) == 1:
            self._next_tick = process.started + TICK

    def _kill(self, header: dict[str, Any]) -> None:
        key = header["id"], header["attempt"]
        process = self._running.get(key)
        if process is not None:
            if process.result is None and process.kill is None:
                process.kill = header["ending"]
            process.kill_at = monotonic() + header["grace"]
            trees.signal_group(process.pid, SIGTERM if header["grace"] > 0 else SIGKILL)
            return
        for order in self._waiting:
            if (order.id, order.attempt) == key:
                self._waiting.remove(order)
                self.tell(_ended(order, header["ending"], b"", 0.0, 0))
                return

    # Processes

    def _fill(self) -> None:
        """Keep spares waiting, and hand those that have become ready to waiting orders."""
        while len(self._spares) < self._spawner.wanted(len(self._waiting)):
            self._spares.append(self._spawn())
        while self._waiting:
            spare = next((spare for spare in self._spares if spare.ready), None)
            if spare is None:
                return
            self._spares.remove(spare)
            self._assign(spare, self._waiting.popleft())

    def _spawn(self) -> Process:
        process = self._spawner.spawn(self._own())
        self._calls[process.pidfd] = lambda: self._exited(process)
        self._epoll.register(process.pidfd, select.EPOLLIN)
        self._calls[process.channel] = lambda: self._heard(process)
        self._outputs.register(process.channel, select.EPOLLIN)
        for stream in process.streams:
            self._calls[stream.fd] = lambda stream=stream: self._printed(process, stream)  # type: ignore[misc]
            self._outputs.register(stream.fd, select.EPOLLIN)
        if process.pending:
            self._push(process)
        return process

    def _push(self, process: Process) -> None:
        left = process.push()
        if process.channel >= 0:
            self._outputs.modify(process.channel, select.EPOLLIN | (select.EPOLLOUT if left else 0))

    def _own(self) -> list[int]:
        """All descriptors of the runner: a fork must not keep those of other executions."""
        return [self._control, self._epoll.fileno(), self._outputs.fileno(), *self._calls]

    def _heard(self, process: Process) -> None:
        if process.pending:
            self._push(process)
        data = receive(process.channel)
        if data is None:
            return
        if not data:
            self._forget(process.channel)
            process.channel = -1
            return
        waited = process.result is None
        for text in process.hear(data, self._limits):
            self.tell(text)
        if waited and process.result is not None:
            process.kill_at = monotonic() + LINGER
        if process.broken is not None:
            trees.signal_group(process.pid, SIGKILL)

    def _printed(self, process: Process, stream: Stream) -> None:
        data = receive(stream.fd)
        if data == b"":
            self._forget(stream.fd)
            stream.fd = -1
        elif data is not None:
            self.tell(process.log(stream.name, stream.lines(data), self._limits["log"]))

    def _forget(self, fd: int) -> None:
        del self._calls[fd]
        close(fd)

    def _exited(self, process: Process) -> None:
        """The main process has ended: now everything it started ends, and then so does the execution."""
        trees.signal_group(process.pid, SIGKILL)
        process.reap()
        if process.order is None:
            self._discard(process)
            return
        del self._running[process.order.id, process.order.attempt]
        self._sweeping.append((process, monotonic() + SWEEP))
        self._epoll.unregister(process.pidfd)

    def _sweep(self) -> None:
        """Kill what has been adopted from executions that ended; finish them when nothing of it is left."""
        mains = {process.pid for process in (*self._running.values(), *self._spares)}
        strays = set(trees.children(getpid())) - mains - self._kept - self._cleaners.keys() - self._retired.keys()
        if strays:
            below = [pid for stray in strays for pid in trees.tree(stray)]
            trees.kill_all(below)
            trees.reap(strays)
            if any(monotonic() > limit for _, limit in self._sweeping):
                self._give_up(len(below))
            return
        finished, self._sweeping = self._sweeping, []
        for process, _ in finished:
            self._finish(process)

    def _give_up(self, left: int) -> NoReturn:
        self.tell(frame({"type": "broken", "message": f"{left} processes of an execution could not be ended"}))
        os.set_blocking(self._control, True)
        self._write()
        self._end()

    def _finish(self, process: Process) -> None:
        for text in process.drain(self._limits):
            self.tell(text)
        if process.cut:
            most = f"{self._limits['log'] / 1048576:g} MiB or {MOST_LINES} lines"
            self.tell(process.system(f"{process.cut} bytes of output were cut: {most} are kept\n"))
        if process.lingered:
            self.tell(process.system(f"ended {LINGER:g} s after its function, which a thread or atexit outlasted\n"))
        self._close(process)
        cleaner = self._spawner.clean(process.scratch)
        if cleaner is None:
            self._tell_end(process)
        else:
            self._cleaners[cleaner] = process
            pidfd = pidfd_open(cleaner)
            self._calls[pidfd] = lambda: self._cleaned(cleaner, pidfd)
            self._epoll.register(pidfd, select.EPOLLIN)

    def _cleaned(self, cleaner: int, pidfd: int) -> None:
        waitpid(cleaner, 0)
        self._forget(pidfd)
        self._tell_end(self._cleaners.pop(cleaner))

    def _tell_end(self, process: Process) -> None:
        assert process.order is not None
        ending, payload = process.verdict(self._limits)
        self.tell(_ended(process.order, ending, payload, process.cpu_time, process.memory))

    def _close(self, process: Process) -> None:
        for fd in process.descriptors():
            self._calls.pop(fd, None)
            close(fd)

    def _discard(self, spare: Process) -> None:
        """A spare has ended before it had an order: its import failed, or something killed it."""
        spare.drain(self._limits)
        if self._retired.pop(spare.pid, None) is None:
            self._spares.remove(spare)
        self._close(spare)
        self._spawner.clean(spare.scratch)
        if not spare.ready:
            self._spawner.lost()
            if self._waiting:
                spare.order = self._waiting.popleft()
                self._tell_end(spare)

    def _tick(self) -> None:
        now = monotonic()
        self._next_tick = now + TICK
        self._spawner.relax(now)
        if len(self._spares) > self._spawner.wanted(0) and not self._waiting:
            spare = self._spares.pop()
            self._retired[spare.pid] = spare
            trees.signal_group(spare.pid, SIGKILL)
        for process in self._running.values():
            if process.kill_at is not None and now >= process.kill_at:
                process.lingered = process.result is not None and process.kill is None
                trees.signal_group(process.pid, SIGKILL)
            elif now - process.started >= TICK:
                self._weigh(process)

    def _weigh(self, process: Process) -> None:
        used = trees.memory(trees.tree(process.pid), self._limits["memory"])
        process.memory = max(process.memory, used)
        if used > self._limits["memory"] and process.kill is None and process.result is None:
            process.kill = "out_of_memory"
            trees.signal_group(process.pid, SIGKILL)


def _ended(order: Order, ending: str, payload: bytes, cpu_time: float, memory: int) -> bytes:
    header: dict[str, Any] = {"type": "ended", "id": order.id, "attempt": order.attempt, "ending": ending}
    header.update(cpu_time=round(cpu_time, 6), memory_peak=memory)
    return frame(header, payload)
