"""What the runner knows of one process of an execution: its output, its result, and how it ended."""

from __future__ import annotations

import time
from os import WIFSIGNALED, WTERMSIG, read, wait4, waitstatus_to_exitcode, write
from signal import SIGKILL, strsignal
from typing import Any, NamedTuple

from deferlite.runner.failures import error_object
from deferlite.runner.frames import Frames, frame

CHUNK = 64 * 1024
"""Bytes of one read, and of the longest unfinished line held back."""

MOST_LINES = 20_000
"""Lines of output kept of an execution: each is a row, so short ones weigh more than their bytes."""

LONGEST_LEVEL = 64
"""Characters of a level's name."""

_SIGNALS = {
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
    31: "SIGSYS",
}


class Order(NamedTuple):
    """A ``start`` frame on its way to a process."""

    id: str
    attempt: int
    data: bytes
    """The frame as it came."""


class Stream:
    """stdout or stderr: bytes in, whole lines out."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self._rest = b""

    def lines(self, data: bytes) -> bytes:
        """The lines that ``data`` completes; the rest waits, unless it is longer than CHUNK."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) > CHUNK:
            end = _character_end(data)
        self._rest = data[end:]
        return data[:end]

    def rest(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest


def _character_end(data: bytes) -> int:
    """Where to cut so that no UTF-8 character is torn."""
    for end in range(len(data), len(data) - 4, -1):
        if data[end - 1] < 0x80 or data[end - 1] >= 0xC0:
            return end if data[end - 1] < 0x80 else end - 1
    return len(data)


def _end_of_line(data: bytes, count: int) -> int:
    """Where the first ``count`` lines of ``data`` end."""
    end = 0
    for _ in range(count):
        end = data.index(b"\n", end) + 1
    return end


class Process:
    """A spare while ``order`` is None, then the process of an execution."""

    def __init__(self, pid: int, pidfd: int, channel: int, out: int, err: int, scratch: str) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel
        self.streams = (Stream("stdout", out), Stream("stderr", err))
        self.scratch = scratch
        self.ready = True
        self.order: Order | None = None
        self.started = 0.0
        self.kill: str | None = None
        """The ending that the server asked for, or out_of_memory."""
        self.kill_at: float | None = None
        self.result: tuple[bool, bytes] | None = None
        self.unfurnished: bytes | None = None
        """The error object of what went wrong before the function was called."""
        self.failed: bytes | None = None
        """The error object of a spare that could not import."""
        self.memory = 0
        self.logged = 0
        self.lines = 0
        self.cut = 0
        self.broken: str | None = None
        """What it did to the channel."""
        self.lingered = False
        self.pending = bytearray()
        """Bytes that the channel has not taken yet."""
        self.status = 0
        self.cpu_time = 0.0
        self._frames: Frames | None = None

    def descriptors(self) -> list[int]:
        return [fd for fd in (self.pidfd, self.channel, *(s.fd for s in self.streams)) if fd >= 0]

    def push(self) -> bool:
        """Write what is pending; whether something is left."""
        try:
            while self.pending and self.channel >= 0:
                del self.pending[: write(self.channel, self.pending)]
        except BlockingIOError:
            return True
        except OSError:
            self.pending.clear()
        return False

    def reap(self) -> None:
        """Collect the ended main process."""
        _, self.status, usage = wait4(self.pid, 0)
        self.cpu_time = usage.ru_utime + usage.ru_stime
        self.memory = max(self.memory, usage.ru_maxrss * 1024)

    def log(self, stream: str, text: bytes, limit: int, level: str = "", moment: int = 0) -> bytes:
        """The frame that carries ``text``; empty once ``limit`` bytes of this execution have been sent."""
        if self.order is None or not text:
            return b""
        room = limit - self.logged
        if text.count(b"\n") > MOST_LINES - self.lines:
            room = min(room, _end_of_line(text, MOST_LINES - self.lines))
        if room < len(text):
            kept = text[: _character_end(text[: max(room, 0)])] if room > 0 else b""
            self.cut += len(text) - len(kept)
            text = kept
            if not text:
                return b""
        self.logged += len(text)
        self.lines += text.count(b"\n")
        header: dict[str, Any] = {"type": "log", "id": self.order.id, "attempt": self.order.attempt}
        header.update(stream=stream, level=level, time=moment or time.time_ns() // 1000)
        return frame(header, text)

    def system(self, text: str) -> bytes:
        """A line of deferlite's own; no limit holds it back."""
        logged, lines = self.logged, self.lines
        self.logged = self.lines = 0
        data = self.log("system", text.encode(), len(text) * 4)
        self.logged, self.lines = logged, lines
        return data

    def hear(self, data: bytes, limits: dict[str, int]) -> list[bytes]:
        """Take what came over the channel; return frames for the server."""
        if self._frames is None:
            self._frames = Frames(max(limits["result"], 1 << 20) + 4096)
        out = []
        try:
            for header, payload, _ in self._frames.feed(data):
                out.append(self._heard(header, payload, limits))
        except (ValueError, OverflowError, KeyError, TypeError) as error:
            self.broken = f"wrote to the runner's channel what is not a frame: {error}"
        return out

    def _heard(self, header: dict[str, Any], payload: bytes, limits: dict[str, int]) -> bytes:
        kind = header["type"]
        if kind == "log":
            level = str(header["level"])[:LONGEST_LEVEL].encode(errors="replace").decode()
            moment = int(header["time"])
            if not 0 < moment < 1 << 62:
                raise ValueError("a time that is none")
            return self.log("logging", payload, limits["log"], level, moment)
        if kind == "ready":
            self.ready = True
        elif kind == "unfurnished":
            self.unfurnished = payload
        elif kind == "failed":
            self.failed = payload
        elif kind == "result" and self.result is None and self.kill is None:
            self.result = (bool(header["ok"]), payload)
        return b""

    def verdict(self, limits: dict[str, int]) -> tuple[str, bytes]:
        """How it ended, and the payload that says so: the one place that decides it."""
        if self.kill is not None:
            return self.kill, b""
        if self.result is not None:
            return ("returned" if self.result[0] else "raised"), self.result[1]
        if self.unfurnished is not None:
            return "internal", self.unfurnished
        if self.failed is not None:
            return "raised", self.failed
        if self.broken is not None:
            return "raised", error_object("RuntimeError", self.broken)
        if WIFSIGNALED(self.status):
            return self._signalled(WTERMSIG(self.status), limits)
        code = waitstatus_to_exitcode(self.status)
        return "raised", error_object("NonZeroExit", f"exited with status {code} before the function returned")

    def _signalled(self, signal: int, limits: dict[str, int]) -> tuple[str, bytes]:
        # The kernel's own out-of-memory killer leaves no other trace than SIGKILL.
        if signal == SIGKILL and self.memory > limits["memory"]:
            return "out_of_memory", b""
        name = _SIGNALS.get(signal, f"signal {signal}")
        return "raised", error_object("KilledBySignal", f"killed by {name} ({strsignal(signal)})")

    def drain(self, limits: dict[str, int]) -> list[bytes]:
        """All that is still in the pipes and the channel of a process that has ended."""
        out = []
        while data := receive(self.channel):
            out += self.hear(data, limits)
        for stream in self.streams:
            while data := receive(stream.fd):
                out.append(self.log(stream.name, stream.lines(data), limits["log"]))
            out.append(self.log(stream.name, stream.rest(), limits["log"]))
        return out


def receive(fd: int) -> bytes | None:
    """What there is to read: None for nothing yet, empty at the end."""
    try:
        return read(fd, CHUNK) if fd >= 0 else b""
    except BlockingIOError:
        return None
    except OSError:
        return b""
