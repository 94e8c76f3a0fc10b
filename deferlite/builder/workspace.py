"""What one build works with: its folder, its settings, its log, and the box its commands run in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from deferlite.builder import variables
from deferlite.builder.journal import Journal
from deferlite.builder.layout import BuildFolder, Layout, remove_tree
from deferlite.builder.plan import TreeFiles
from deferlite.model.build import Build
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox.box import Box
from deferlite.sandbox.levels import SandboxStatus
from deferlite.sandbox.process import Completed, run

_NETWORK_FAULTS = (
    "dns error",
    "failed to lookup address",
    "connection refused",
    "network is unreachable",
    "tcp connect error",
    "timed out",
    "failed to fetch",
    "error sending request",
    "no space left on device",
)


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """One build at work. ``env`` is the environment's ``[env]``, files read."""

    build: Build
    config: EnvironmentConfig
    layout: Layout
    folder: BuildFolder
    project: Path
    env: dict[str, str]
    status: SandboxStatus
    journal: Journal
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
        for folder in (*self._writable(), self.given):
            await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
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
    ) -> Completed:
        """Run a command in the box, in the project's folder; its output goes to the log as it comes."""
        env = self._variables(venv, indexes) | (extra or {})
        box = Box(
            read_only=(*variables.certificate_folders(), self.given, *read_only),
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
            on_line=self.journal.line,
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
        if "PATH" in self.env and venv is not None:
            merged["PATH"] = f"{venv}/bin:{self.env['PATH']}"
        return merged | own


def expect(done: Completed, what: str, cure: str = "") -> None:
    """Raise unless the command went well; the end of its output is part of the message.

    Raises:
        WorldError: it looks like the network or the disk.
        BuildError: anything else.
    """
    if done.returncode == 0:
        return
    status = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
    tail = "\n".join(done.output_tail.strip().splitlines()[-20:])
    said = tail.lower()
    if any(fault in said for fault in _NETWORK_FAULTS) and not cure:
        hint = "the network or the disk failed, so trying again may help: deferlite build"
        raise WorldError(f"{what} failed ({status}); {hint}\n{tail}")
    raise BuildError(f"{what} failed ({status})" + (f": {cure}" if cure else "") + (f"\n{tail}" if tail else ""))
