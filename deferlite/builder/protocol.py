"""What a server and a builder say to each other: an order in, events out.

A builder makes a fetched tree ready to run: it plans, installs, generates and finds the functions. Fetching the tree
before, and publishing what came out after, are the server's. The server's own builder is called in its process; that
of another version (``[build] builder``) is a program, ``python -m deferlite.builder``:

- stdin: one ``BuildOrder`` as JSON, to the end of the file. It holds secrets, so it is never on a command line.
- stdout: events, one JSON object a line, each with its ``type``. First ``hello``, then any number of ``step`` and
  ``line``, at last one of ``made`` and ``failed``; the program ends after it.
- stderr: the program's own last words, should it break. The output of the project's commands goes out as ``line``.
- SIGTERM: end everything that was started, leave nothing half-made, go. The kernel does the first when either dies.

Versions: ``protocol`` of an order is the one that the server speaks, and a builder answers in it. New fields and new
events change no number: whoever does not know one ignores it, and what is missing has a default. Only what the other
side cannot do without gets a new number; a builder refuses a higher one than its own by a ``failed`` event whose
message says so, a server refuses such a ``hello``.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from deferlite.model.build import BuildState

PROTOCOL = 1


class BuildOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One build. Paths are absolute; the tree lies in ``folder``/source already."""

    protocol: int = PROTOCOL
    id: str
    environment: str
    settings: dict[str, Any] = {}
    """``[build]`` as plain data."""
    env: dict[str, str] = {}
    """``[env]``, its files read."""
    home: str
    folder: str
    project: str
    hidden: tuple[str, ...] = ()
    """What no command may see."""
    sandbox: str
    """The level in force, ``bubblewrap`` or ``process``: less is refused."""
    bwrap: str | None = None

    def __repr__(self) -> str:
        return f"BuildOrder(id={self.id!r}, environment={self.environment!r})"


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    version: str
    """Of the deferlite that the builder is part of."""
    protocol: int


class Step(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    state: str
    """One of ``STEPS``."""


class Line(msgspec.Struct, frozen=True, kw_only=True, tag="line"):
    """A line of the log; ``stream`` is stdout, stderr or system."""

    stream: str
    text: str


class Made(msgspec.Struct, frozen=True, kw_only=True, tag="made"):
    manifest: msgspec.Raw
    """JSON of ``Manifest``."""
    version: str = ""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    kind: Literal["project", "world", "internal"]
    message: str


Event = Hello | Step | Line | Made | Failed
STEPS = (BuildState.INSTALLING, BuildState.GENERATING, BuildState.COMPILING)

_EVENTS = {"hello": Hello, "step": Step, "line": Line, "made": Made, "failed": Failed}


class _Typed(msgspec.Struct):
    type: str


def decode_event(line: bytes) -> Event | None:
    """The event of one line; None: one of a kind that this deferlite does not know.

    Raises:
        msgspec.DecodeError: it is none.
    """
    kind = _EVENTS.get(msgspec.json.decode(line, type=_Typed).type)
    return None if kind is None else msgspec.json.decode(line, type=kind)


class Listener(Protocol):
    """Hears a build at work, in the order in which things happen."""

    def say(self, text: str) -> None:
        """deferlite's own words."""
        ...

    def line(self, stream: str, text: str) -> None:
        """A line of a command's output."""
        ...

    async def step(self, state: BuildState) -> None: ...
