"""What a repository holds now, and the folders where a change of it shows first."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import anyio.to_thread
import msgspec
from watchfiles import Change, DefaultFilter

from deferlite.model.build import Build
from deferlite.model.environment import EnvironmentConfig, is_remote
from deferlite.sandbox import git
from deferlite.sandbox.access import access_of
from deferlite.sandbox.git import Checkout, RepositoryError
from deferlite.sandbox.refs import Refs, local_refs, remote_refs, tip_of
from deferlite.watcher.hints import Relevant, everything

Watch = Callable[[dict[Path, Relevant]], Awaitable[None]]
"""Watches these folders from now on."""

WORKING_TREE = "working tree "
_REF_NAMES = frozenset({"packed-refs", "refs", "reftable"})
_HEAD_NAMES = frozenset({"HEAD", "rebase-merge", "rebase-apply"})
_noise = DefaultFilter()

_MOST_FOLDERS = 1000
"""Folders of branches that are watched; what happens in further ones is noticed by the timer."""

_LOOKS_FOR_FOLDERS = 5
"""Times that the folders of branches are listed again because some came while they were put under watch."""


class Seen(msgspec.Struct, frozen=True):
    """What there is to build."""

    commit: str | None
    branch: str | None
    message: str
    fingerprint: str | None = None
    """Of the files of a working tree; None: the commit says it all."""

    def is_what_was_built(self, build: Build) -> bool:
        """Whether ``build`` was asked for because of the same files."""
        if self.fingerprint is None:
            return self.commit == build.commit
        return build.message.startswith(WORKING_TREE + self.fingerprint)


class Sight(msgspec.Struct, frozen=True):
    """A repository at one moment, for all environments that follow it."""

    shown: str
    """The repository, for people."""
    refs: Refs
    busy: bool = False
    """HEAD runs through commits that nobody asked to build."""
    history: Path | None = None
    """The git folder that knows what became of which commit; None: it is not on this machine, or not known here."""
    files: Seen | None = None
    """Of a working tree that is built as it stands."""

    def seen_by(self, config: EnvironmentConfig) -> Seen | None:
        """What there is to build by these settings; None: it is not known yet.

        Raises RepositoryError: no such branch, or no commit yet.
        """
        if self.files is not None:
            return self.files
        if config.branch is None and self.busy:
            return None
        tip = tip_of(self.refs, config.branch, self.shown)
        return Seen(tip.commit, tip.branch, tip.subject)


async def look_at(config: EnvironmentConfig, watch: Watch) -> Sight:
    """The repository of ``config``, watched from now on where that can be. Raises RepositoryError, WorldError."""
    if is_remote(config.repository):
        access = await anyio.to_thread.run_sync(access_of, config.git)
        refs = await remote_refs(config.repository, access)
        return Sight(git.without_secrets(config.repository), refs)
    checkout = await _opened(Path(config.repository), watch)
    return await (_look_at_files(checkout, config, watch) if config.worktree else _look_at_refs(checkout, watch))


async def _look_at_refs(checkout: Checkout, watch: Watch) -> Sight:
    await _watch_refs(checkout, watch)
    # Asked before and after: a rebase may begin or end while the branches are read.
    busy = await anyio.to_thread.run_sync(checkout.is_rebasing)
    refs = await local_refs(checkout)
    busy = busy or await anyio.to_thread.run_sync(checkout.is_rebasing)
    return Sight(str(checkout.path), refs, busy, checkout.common_dir)


async def _watch_refs(checkout: Checkout, watch: Watch) -> None:
    folders = await anyio.to_thread.run_sync(_ref_folders, checkout)
    for _ in range(_LOOKS_FOR_FOLDERS):
        await watch(folders)
        now = await anyio.to_thread.run_sync(_ref_folders, checkout)
        if now.keys() == folders.keys():
            break
        folders = now


async def _look_at_files(checkout: Checkout, config: EnvironmentConfig, watch: Watch) -> Sight:
    top = checkout.top
    if top is None:
        raise RepositoryError(
            f"worktree = true needs a checkout, and {checkout.path} is a bare repository: remove worktree"
        )
    submodules = config.git.submodules
    files, untracked = await git.worktree_files(top, submodules=submodules), await git.untracked_folders(top)
    folders = await anyio.to_thread.run_sync(_file_folders, top, files.names, untracked)
    await watch({**_path_folders(top), **folders})
    files = await git.worktree_files(top, submodules=submodules)
    fingerprint = await anyio.to_thread.run_sync(fingerprint_of, top, files.names)
    refs = await local_refs(checkout)
    try:
        tip = tip_of(refs, None, str(checkout.path))
    except RepositoryError:  # No commit yet.
        seen = Seen(None, None, WORKING_TREE + fingerprint, fingerprint)
    else:
        seen = Seen(tip.commit, tip.branch, f"{WORKING_TREE}{fingerprint} on {tip.subject}", fingerprint)
    return Sight(str(checkout.path), refs, files=seen)


async def _opened(path: Path, watch: Watch) -> Checkout:
    try:
        return await git.open_checkout(path)
    except RepositoryError:
        await watch(await anyio.to_thread.run_sync(_neighbourhood, path))
        # It may have come before the watch was in force.
        return await git.open_checkout(path)


def _neighbourhood(path: Path) -> dict[Path, Relevant]:
    """Where a repository that is not there would appear."""
    folders: dict[Path, Relevant] = {path / ".git": everything, path: _one_of(_REF_NAMES | {"HEAD", ".git", "objects"})}
    child = path
    while child != child.parent and not child.exists():
        folders[child.parent] = _one_of({child.name})
        child = child.parent
    return {**_path_folders(path), **folders}


def _path_folders(path: Path) -> dict[Path, Relevant]:
    """Notices that the repository itself is moved away or replaced."""
    return {path.parent: _one_of({path.name}), path: _one_of({".git"})}


def _ref_folders(checkout: Checkout) -> dict[Path, Relevant]:
    """Where a branch moves, comes or goes, and where HEAD comes to name another one."""
    common = checkout.common_dir
    heads = common / "refs" / "heads"
    # A branch feature/x is a file in a folder: each may come and go.
    below = (Path(path) for path, _, _ in os.walk(heads))
    return {
        **_path_folders(checkout.path),
        checkout.git_dir: _one_of(_HEAD_NAMES),
        common: _one_of(_REF_NAMES | _HEAD_NAMES),
        common / "reftable": _unlocked,
        common / "refs": _one_of({"heads"}),
        **dict.fromkeys(itertools.islice(below, _MOST_FOLDERS), _unlocked),
    }


def _file_folders(top: Path, names: Iterable[str], untracked: Iterable[str]) -> dict[Path, Relevant]:
    folders = {top}
    for name in names:
        folders.update(top / parent for parent in PurePosixPath(name).parents)
    for name in untracked:
        folders.update(_walked(top / name))
    return dict.fromkeys(folders, _is_source)


def _walked(folder: Path) -> Iterator[Path]:
    """``folder`` and those below it that hold sources; empty ones may hold some soon."""
    for path, below, _ in os.walk(folder):
        below[:] = [name for name in below if _is_source(name)]
        yield Path(path)


def fingerprint_of(top: Path, names: Iterable[str]) -> str:
    """Twelve hex digits of the names, times and sizes of those of ``names`` that exist."""
    digest = hashlib.sha256()
    for name in names:
        if not all(_is_source(part) for part in PurePosixPath(name).parts):
            continue
        try:
            status = os.lstat(top / name)
        except OSError:
            continue
        digest.update(
            f"{name}\0{status.st_mtime_ns}\0{status.st_size}\0{status.st_mode}\0".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:12]


def _is_source(name: str) -> bool:
    """Not what editors and interpreters leave behind."""
    return _noise(Change.modified, name)


def _unlocked(name: str) -> bool:
    return not name.endswith(".lock")


def _one_of(names: Iterable[str]) -> Relevant:
    return frozenset(names).__contains__
