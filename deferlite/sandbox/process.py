"""Commands of a build and small questions to trusted programs. Every command's whole process tree ends with it."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from deferlite.model.errors import WorldError
from deferlite.sandbox.box import Box, wrap
from deferlite.sandbox.child import Child
from deferlite.sandbox.levels import SandboxStatus

TAIL = 4096
"""Characters of output kept in ``Completed.output_tail``."""

LAST_WORDS = 1.0
"""Seconds the output may stay open after the command has ended."""

LARGEST_OUTPUT = 64 * 1024 * 1024
"""Characters that a small trusted command may print: what it reads may be somebody else's, and without an end."""

LONGEST_LINE = 64 * 1024
"""Characters after which a line without an end is handed on in pieces."""

OnLine = Callable[[str, str], None]
"""Takes ``stdout`` or ``stderr``, and a line without its end."""


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    returncode: int
    """Negative: the signal that ended it."""
    timed_out: bool
    output_tail: str
    """The end of stdout and stderr as they came."""


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    status: SandboxStatus | None,
    box: Box | None = None,
    timeout: float | None,
    on_line: OnLine | None = None,
    progress: bool = False,
) -> Completed:
    """Run a command to its end, in ``box`` if one is given; ``env`` is its complete environment.

    With ``progress`` a carriage return ends a line too, so that a line which is written over again is seen each time.

    With a box, ``box.cwd`` and ``box.env`` are what counts. stdin is empty. When ``timeout`` seconds are over, or the
    caller is cancelled, everything it started is ended first; without a box that is its process group.

    Raises:
        SandboxError: the program cannot be started.
    """
    if box is not None and status is not None:
        argv, cwd, env = await anyio.to_thread.run_sync(wrap, status, box, argv), box.cwd, box.env
    output = _Output(on_line, progress)
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    child = Child(argv, cwd=cwd, env=env, heard=output.feed, ended=ended.set_result, trusted=box is None)
    try:
        with anyio.move_on_after(timeout) as scope:
            await asyncio.shield(ended)
    finally:
        child.kill()
        with anyio.CancelScope(shield=True):
            returncode = await ended
            # Without a box a daemon may hold the pipes open: it is not waited for.
            await asyncio.wait([child.closed], timeout=LAST_WORDS)
        child.close()
    output.close()
    return Completed(returncode=returncode, timed_out=scope.cancelled_caught, output_tail=output.tail)


async def output(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 30,
) -> str:
    """The stdout of a small trusted command, which runs in ``/`` or ``cwd``; ``env`` None inherits the server's.

    Raises:
        WorldError: it failed, with the end of its stderr, took longer than ``timeout`` seconds, or does not stop
            printing.
    """
    heard: list[str] = []
    errors: list[str] = []
    left = LARGEST_OUTPUT

    def on_line(stream: str, text: str) -> None:
        nonlocal left
        left -= len(text) + 1
        (heard if stream == "stdout" else errors).append(text)
        if left < 0:
            scope.cancel()

    with anyio.CancelScope() as scope:
        done = await run(
            argv,
            cwd=cwd or Path("/"),
            env=os.environ if env is None else env,
            status=None,
            timeout=timeout,
            on_line=on_line,
        )
    if scope.cancelled_caught:
        raise WorldError(f"{Path(argv[0]).name} printed more than {LARGEST_OUTPUT >> 20} MiB")
    if done.timed_out:
        raise WorldError(f"{argv[0]} took longer than {timeout:g} s")
    if done.returncode != 0:
        said = "\n".join(errors)[-TAIL:] or f"exit status {done.returncode}"
        raise WorldError(f"{Path(argv[0]).name} {argv[1] if len(argv) > 1 else ''} failed: {said}")
    return "\n".join(heard)


class _Output:
    """Lines out of two byte streams, and the last characters of both."""

    def __init__(self, on_line: OnLine | None, progress: bool = False) -> None:
        self.tail = ""
        self._on_line = on_line
        self._progress = progress
        self._rest = {"stdout": "", "stderr": ""}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder(errors="replace") for name in self._rest}

    def feed(self, name: str, chunk: bytes, final: bool = False) -> None:
        text = self._decoders[name].decode(chunk, final)
        self.tail = (self.tail + text)[-TAIL:]
        text = text.replace("\r", "\n") if self._progress else text
        *lines, rest = (self._rest[name] + text).split("\n")
        if final or len(rest) > LONGEST_LINE:
            lines, rest = ([*lines, rest] if rest else lines), ""
        self._rest[name] = rest
        if self._on_line is not None:
            for line in lines:
                self._on_line(name, line.removesuffix("\r"))

    def close(self) -> None:
        for name in self._rest:
            self.feed(name, b"", final=True)
