"""How the runner of a build is started, as data: written by the builder, read by executors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    runtime: Literal["python", "node"] = "python"
    interpreter: Path
    """The interpreter inside the build, not resolved: a virtual environment's ``bin/python``."""
    project: Path
    """The project's folder: the working folder, and where modules are found first unless ``import_paths`` says."""
    modules: tuple[str, ...]
    """Imported ahead, in this order."""
    import_paths: tuple[Path, ...] = ()
    """Folders for imports, the first one first, such as the project's ``src``."""
    read_only: tuple[Path, ...] = ()
    """What the box shows besides the project: the build's folder, its environment, the interpreter's installation.
    The link to that is not followed: code of the project may have changed it."""
    hidden: tuple[Path, ...] = ()
    """What the box never shows: the server's own folders, but for what is named here."""
    environment: dict[str, str] = {}
    """Variables while modules are imported: the environment's own, none of a single execution."""
    network: bool = True
    memory: int = 512 * 1024 * 1024
    """Bytes an execution's processes may use together."""
    mounts: tuple[str, ...] = ()
    """Folders of the machine, ``/srv/media`` or ``/srv/uploads:rw``."""
    workdir: Literal["project", "scratch"] = "project"
    django_settings: str | None = None

    @property
    def path(self) -> tuple[Path, ...]:
        """Where modules are looked for, in this order."""
        return self.import_paths if self.project in self.import_paths else (self.project, *self.import_paths)
