"""What one build works with: its folder, its settings, its log, and the box its commands run in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL, Signals

import anyio
import msgspec
import uv

from deferlite.builder import variables
from deferlite.builder.layout import BuildFolder, Layout, remove_tree
from deferlite.builder.plan import TreeFiles
from deferlite.builder.protocol import BuildOrder, Listener
from deferlite.model.environment import BuildSettings
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox.box import SYSTEM_PATH, Box
from deferlite.sandbox.levels import SandboxStatus
from deferlite.sandbox.process import Completed, OnLine, run

FULL_DISK = ("no space left on device", "os error 28", "errno 28", "disk quota exceeded")
_NETWORK_FAULTS = (
    "dns error",
    "failed to lookup address",
    "connection refused",
    "network is unreachable",
    "tcp connect error",
    "connect timeout",
    "operation timed out",
    "request timed out",
    "failed to fetch",
    "error sending request",
    # As requests and urllib3 say it, which poetry, pdm and pipenv use.
    "connectionerror",
    "newconnectionerror",
    "max retries exceeded",
    "temporary failure in name resolution",
    "name or service not known",
    "all attempts to connect to",
    "connection reset by peer",
    "read timed out",
)
_ANSWERED = ("status client error", "404 client error", "401 client error", "403 client error")
"""The index answers, and what it says will stay so."""

AGAIN = "trying again may help: deferlite build"


class ProjectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of an environment's file concerns its project."""

    build: BuildSettings


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """One build at work. ``env`` is the environment's ``[env]``, files read."""

    build: BuildOrder
    config: ProjectSettings
    layout: Layout
    folder: BuildFolder
    project: Path
    env: dict[str, str]
    status: SandboxStatus
    journal: Listener
    hidden: tuple[Path, ...] = ()
    """As of ``Box``."""

    @property
    def files(self) -> TreeFiles:
        return TreeFiles(self.folder.source, self.project)

    @property
    def given(self) -> Path:
        """Files that the server writes for commands to read."""
        return self.folder.scratch / "given"

    @property
    def taken(self) -> Path:
        """Files that commands write for the server to read, which must not follow a link there."""
        return self.folder.scratch / "taken"

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[None]:
        """Folders for HOME, TMPDIR and what is handed over, as long as commands run."""
        for folder in (*self._writable(), self.given / "bin"):
            await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
        # For the project's own commands: the environment has no pip, so nothing else could install there.
        await anyio.Path(self.given / "bin" / "uv").symlink_to(find_uv())
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await remove_tree(self.folder.scratch)

    def _writable(self) -> tuple[Path, ...]:
        # Never the build's folder itself: the server writes there, and a link in its way would lead it elsewhere.
        return self.folder.source, self.folder.scratch / "home", self.folder.scratch / "tmp", self.taken

    async def command(
        self,
        argv: Sequence[str],
        *,
        venv: Path | None,
        read_only: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        extra: dict[str, str] | None = None,
        indexes: bool = False,
        on_line: OnLine | None = None,
    ) -> Completed:
        """Run a command in the box, in the project's folder; its output goes to ``on_line``, else the log, at once."""
        env = self._variables(venv, indexes) | (extra or {})
        shown = (*variables.certificate_folders(), *(variables.link_folders() if indexes else ()))
        box = Box(
            read_only=(*shown, self.given, find_uv(), *read_only),
            writable=(*self._writable(), *writable),
            hidden=self.hidden,
            network=True,
            cwd=self.project,
            env=env,
        )
        return await run(
            argv,
            cwd=self.project,
            env=env,
            status=self.status,
            box=box,
            timeout=None,
            on_line=on_line or self.journal.line,
        )

    def _variables(self, venv: Path | None, indexes: bool) -> dict[str, str]:
        network = variables.network_variables(indexes=indexes)
        own = {
            "HOME": str(self.folder.scratch / "home"),
            "TMPDIR": str(self.folder.scratch / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
        }
        merged = variables.base_variables(venv) | network | self.env
        # A PATH of [env] adds to the environment's own: without it no command would be found.
        if venv is not None:
            merged["PATH"] = f"{venv}/bin:{self.given}/bin:{self.env.get('PATH', SYSTEM_PATH)}"
        return merged | own


def find_uv() -> Path:
    return Path(uv.find_uv_bin())


def expect(done: Completed, what: str, cure: str = "") -> None:
    """Raise unless the command went well; the end of its output is part of the message.

    Raises:
        WorldError: the network, the disk or somebody's kill ended it: trying again may help.
        BuildError: anything else.
    """
    if done.returncode == 0:
        return
    tail = "\n".join(done.output_tail.strip().splitlines()[-20:])
    said = f"\n{tail}" if tail else ""
    ended = _ending_signal(done.returncode)
    if ended == SIGKILL:
        raise WorldError(f"{what} was killed by signal 9: memory ran out, or somebody did it; {AGAIN}{said}")
    status = f"killed by {ended.name}" if ended else f"exit status {done.returncode}"
    fault = _fault_of_the_world(tail)
    if fault is not None:
        raise WorldError(f"{what} failed ({status}): {fault}{said}")
    raise BuildError(f"{what} failed ({status})" + (f": {cure}" if cure else "") + said)


def _fault_of_the_world(tail: str) -> str | None:
    said = tail.lower()
    if any(word in said for word in FULL_DISK):
        return f"the disk is full; free some space, then {AGAIN}"
    if any(word in said for word in _NETWORK_FAULTS) and not any(word in said for word in _ANSWERED):
        return f"the network, or what is asked there, does not answer; {AGAIN}"
    return None


def _ending_signal(returncode: int) -> Signals | None:
    """A box's first process and a shell hand a signal on as 128 and its number."""
    number = -returncode if returncode < 0 else returncode - 128
    return Signals(number) if number in set(Signals) else None
