"""The seam between a build and what makes it: the server's own builder, or that of another deferlite as a program.

The own one is called in this process. Measured on two cores: a build that changes nothing but code takes 100 ms; by a
program it takes 270 to 380 ms, since an interpreter starts and imports first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import anyio
import msgspec

from deferlite import __version__
from deferlite.builder.program import carry_out
from deferlite.builder.protocol import (
    PROTOCOL,
    STEPS,
    BuildOrder,
    Event,
    Failed,
    Hello,
    Line,
    Listener,
    Made,
    Step,
    decode_event,
)
from deferlite.builder.runtimes import Launch, Runtime
from deferlite.builder.runtimes.manifest import check_launch
from deferlite.builder.variables import base_variables, network_variables
from deferlite.builder.workspace import AGAIN
from deferlite.model.errors import BuildError, WorldError
from deferlite.model.function import Manifest
from deferlite.sandbox.child import Child

HELLO_SECONDS = 60.0
"""How long a program may take to its first word: its files may come from a slow disk."""

GRACE_SECONDS = 5.0
"""How long a program may tidy up after SIGTERM."""

LONGEST_EVENT = 64 * 1024 * 1024
"""Bytes of one line: a manifest is the longest."""

TAIL = 4096
"""Bytes of a program's last words that are kept."""


class Builder(Protocol):
    version: str
    """Of the deferlite that it is part of."""
    key: str
    """Says which builder it is: builds of the same inputs by the same one are the same."""

    async def make(self, order: BuildOrder, listener: Listener, stack: AsyncExitStack) -> Manifest:
        """Make the fetched tree ready to run; ``stack`` holds what the build uses until it is published.

        Raises:
            DeferliteError: the project, the world, the box or the builder is wrong; nothing half-made is left.
        """
        ...


class OwnBuilder:
    """The server's own, in its process."""

    version = __version__
    key = f"deferlite {__version__}"

    def __init__(self, runtimes: Mapping[str, Runtime]) -> None:
        self._runtimes = runtimes

    async def make(self, order: BuildOrder, listener: Listener, stack: AsyncExitStack) -> Manifest:
        return await carry_out(order, self._runtimes, listener, stack)


class ProgramBuilder:
    """A builder as a program; ``name`` is how the environment's file calls it, for messages."""

    def __init__(self, argv: Sequence[str], version: str, key: str, name: str) -> None:
        self.version = version
        self.key = key
        self._argv = argv
        self._name = f"[build] builder = {name!r} (deferlite {version})"

    async def make(self, order: BuildOrder, listener: Listener, stack: AsyncExitStack) -> Manifest:
        program = _Program(self._argv, msgspec.json.encode(order))
        try:
            return await self._converse(program, listener)
        except _Rubbish as error:
            raise BuildError(f"{self._name} {error}: take another version, or remove the line") from None
        except _Killed as error:
            raise WorldError(f"{self._name} {error}; {AGAIN}") from None
        finally:
            with anyio.CancelScope(shield=True):
                await program.end()

    async def _converse(self, program: _Program, listener: Listener) -> Manifest:
        with anyio.move_on_after(HELLO_SECONDS) as limit:
            first = await program.next_event()
            if isinstance(first, Hello) and first.protocol > PROTOCOL:
                raise _Rubbish(f"speaks protocol {first.protocol} of builders, and this server speaks {PROTOCOL}")
            if not isinstance(first, Hello | Failed):
                raise _Rubbish("did not begin with hello")
        if limit.cancelled_caught:
            raise _Rubbish(f"said nothing for {HELLO_SECONDS:g} s")
        event: Event | None = first
        while True:
            match event:
                case Line():
                    listener.line(event.stream, event.text)
                case Step():
                    await self._step(event, listener)
                case Made():
                    return _manifest(event)
                case Failed():
                    raise self._failure(event)
            event = await program.next_event()

    async def _step(self, event: Step, listener: Listener) -> None:
        for state in STEPS:
            if state.value == event.state:
                await listener.step(state)

    def _failure(self, event: Failed) -> Exception:
        first, _, rest = event.message.partition("\n")
        message = f"{first} ({self._name})" + (f"\n{rest}" if rest else "")
        if event.kind == "internal":
            return BuildError(f"(internal) {message}")
        return WorldError(message) if event.kind == "world" else BuildError(message)


class _Rubbish(Exception):
    """What a program did that is not of the protocol."""


class _Killed(Exception):
    """How somebody ended the program."""


def _manifest(event: Made) -> Manifest:
    try:
        manifest = msgspec.json.decode(event.manifest, type=Manifest)
        check_launch(msgspec.convert(manifest.launch, Launch))
    except (msgspec.DecodeError, ValueError, RecursionError, BuildError) as error:
        raise _Rubbish(f"made a manifest that this server, deferlite {__version__}, cannot read ({error})") from None
    return manifest


class _Program:
    """The process, and its events as they come."""

    def __init__(self, argv: Sequence[str], order: bytes) -> None:
        self._said, self._lines = anyio.create_memory_object_stream[bytes](float("inf"))
        self._rest = bytearray()
        self._last_words = b""
        self._status = 0
        self._over = anyio.Event()
        self._child = Child(argv, cwd=Path("/"), env=_variables(), heard=self._hear, ended=self._ended, given=order)

    async def next_event(self) -> Event | None:
        """None: one that this deferlite does not know."""
        try:
            line = await self._lines.receive()
        except anyio.EndOfStream:
            raise await self._how_it_ended() from None
        try:
            return decode_event(line)
        except (msgspec.DecodeError, ValueError, RecursionError):
            shown = line[:80].decode(errors="replace")
            raise _Rubbish(f"said what is not of protocol {PROTOCOL}: {shown!r}") from None

    async def end(self) -> None:
        """Let it tidy up, then end what is left of it."""
        self._child.ask_to_end()
        with anyio.move_on_after(GRACE_SECONDS):
            await self._over.wait()
        self._child.kill()
        await self._over.wait()
        self._child.close()
        self._said.close()
        self._lines.close()

    async def _how_it_ended(self) -> Exception:
        await self._over.wait()
        if self._status < 0:
            return _Killed(f"was killed by signal {-self._status} before the build was made")
        words = self._last_words.decode(errors="replace").strip()
        said = f" (its last words: {words})" if words else ""
        return _Rubbish(f"ended with status {self._status} before the build was made{said}")

    def _hear(self, stream: str, data: bytes) -> None:
        if stream == "stderr":
            self._last_words = (self._last_words + data)[-TAIL:]
            return
        self._rest += data
        if b"\n" not in data and len(self._rest) < LONGEST_EVENT:
            return
        *lines, self._rest = self._rest.split(b"\n") if b"\n" in data else (self._rest, bytearray())
        for line in lines:
            self._said.send_nowait(bytes(line))

    def _ended(self, status: int) -> None:
        self._status = status
        self._over.set()
        self._child.closed.add_done_callback(lambda _: self._said.close())


def _variables() -> dict[str, str]:
    """Nothing of the server's but how the network is reached, and where interpreters may be found."""
    found = {
        name: os.environ[name] for name in ("HOME", "PATH", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR") if name in os.environ
    }
    return base_variables(None) | found | network_variables(indexes=True)
