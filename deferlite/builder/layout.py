"""Where the builder keeps things under the home folder."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import msgspec

from deferlite.sandbox.removal import remove

MANIFEST = "manifest.json"


class Layout(msgspec.Struct, frozen=True):
    """Paths below ``home``. A build's folder is never moved, so paths that tools write into it stay true."""

    home: Path

    @property
    def builds(self) -> Path:
        return self.home / "builds"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def build(self, environment: str, build_id: str) -> BuildFolder:
        return BuildFolder(self.builds / environment / build_id)

    def hidden(self, source: str) -> tuple[Path, ...]:
        """What no build and no execution sees: this home, and the folder of environment files that ``source`` is in."""
        files = Path(source).parent
        return (self.home, files) if files.is_absolute() else (self.home,)

    @property
    def all_dependencies(self) -> Path:
        return self.cache / "dependencies"

    def dependencies(self, key: str) -> Path:
        """A content-addressed environment, shared by every build whose dependencies are the same."""
        return self.all_dependencies / key

    def uv_cache(self, environment: str) -> Path:
        """One each: packages of a private index are read by their own environment only."""
        return self.uv_caches / environment

    @property
    def uv_caches(self) -> Path:
        return self.cache / "uv"

    def foreign(self, environment: str) -> Path:
        """There once other code than uv has had the environment's package cache to write to."""
        return self.cache / "foreign" / environment

    @property
    def locks(self) -> Path:
        """Who is at work with what of the cache, as files that processes lock."""
        return self.cache / "locks"

    @property
    def builders(self) -> Path:
        """Other versions of deferlite that ``[build] builder`` asks for."""
        return self.cache / "builders"

    @property
    def git(self) -> Path:
        return self.cache / "git"

    @property
    def sdk(self) -> Path:
        return self.cache / "sdk"

    @property
    def interpreters(self) -> Path:
        """Python versions that uv fetched for builds."""
        return self.cache / "python"


class BuildFolder(msgspec.Struct, frozen=True):
    """``DIR/builds/ENV/BUILD``: published once its manifest is there, a leftover before."""

    path: Path

    @property
    def source(self) -> Path:
        """The commit's whole tree."""
        return self.path / "source"

    @property
    def private_venv(self) -> Path:
        """Dependencies that cannot be shared, because they come from the project's own files."""
        return self.path / "venv"

    @property
    def metadata(self) -> Path:
        """The project as a distribution: its dist-info, and where it has to be built what that made."""
        return self.path / "metadata"

    @property
    def scratch(self) -> Path:
        """HOME and TMPDIR of the build's commands; gone once it is published."""
        return self.path / "scratch"

    @property
    def manifest(self) -> Path:
        return self.path / MANIFEST

    @property
    def inputs(self) -> Path:
        """A digest of all that the build came out of: another build of the same takes its tree over."""
        return self.path / "inputs"


def remove_leftovers(layout: Layout) -> list[Path]:
    """Remove what a killed server left half-made; return what it was. Blocks; call it before the first build starts."""
    unfinished = [path for path in _folders(layout.builds, "*/*") if not (path / MANIFEST).exists()]
    unfinished += [path for path in _folders(layout.all_dependencies, "*") if not is_complete(path)]
    unfinished += [path for path in _folders(layout.builders, "*") if not is_complete(path)]
    for path in unfinished:
        remove(path)
    return unfinished


def _folders(parent: Path, pattern: str) -> list[Path]:
    return [path for path in parent.glob(pattern) if path.is_dir() and not path.is_symlink()]


async def remove_tree(folder: Path) -> None:
    await anyio.to_thread.run_sync(remove, folder)


def complete_marker(dependencies: Path) -> Path:
    return dependencies / "complete.json"


def is_complete(dependencies: Path) -> bool:
    return complete_marker(dependencies).exists()
