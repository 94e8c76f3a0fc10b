"""The seam between a build and the languages it can build."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import msgspec

from deferlite.builder.plan import Files, Plan
from deferlite.builder.workspace import Workspace
from deferlite.model.environment import BuildSettings
from deferlite.model.function import Manifest


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A project's dependencies as they lie on the disk."""

    venv: Path
    """The folder to activate; read-only once complete."""
    read_only: tuple[Path, ...]
    """Folders outside of the build that running the project needs."""
    import_roots: tuple[Path, ...] = ()
    """Folders of the project that are searched for functions and imported from, besides the usual ones."""
    paths: tuple[Path, ...] = ()
    """Folders of the build that are imported from and not searched."""


class Runtime(Protocol):
    """Everything may raise BuildError (the project is wrong) and WorldError (the network or the disk is)."""

    name: str

    def plan(self, files: Files, settings: BuildSettings) -> Plan:
        """Say how the project is installed, from its files alone."""
        ...

    async def install(self, workspace: Workspace, plan: Plan, stack: AsyncExitStack) -> Installed:
        """Install what the plan says, or find it installed; ``stack`` keeps it from being pruned until it is closed."""
        ...

    async def discover(self, workspace: Workspace, installed: Installed) -> Manifest:
        """Find the functions. ``Manifest.launch`` is a ``Launch`` as plain data."""
        ...

    async def prune(self, launches: Iterable[Launch]) -> None:
        """Remove installed dependencies that none of the builds still kept is started with."""
        ...


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest keeps for starting runners."""

    venv: str
    """Relative to the home."""
    executable: str
    """The program to start, relative to ``venv``."""
    project: str
    """Relative to the build's folder."""
    import_paths: tuple[str, ...]
    """Relative to ``project``, the first one first."""
    django_settings: str | None = None
    read_only: tuple[str, ...] = ()
    """Absolute: what lies outside of the home, such as the interpreter's installation."""
