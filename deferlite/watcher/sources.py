"""What an environment's repository holds now, and the folders where a change of it shows first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import anyio.to_thread
import msgspec
from watchfiles import Change, DefaultFilter

from deferlite.model.build import Build
from deferlite.model.environment import EnvironmentConfig
from deferlite.sandbox import git
from deferlite.sandbox.git import HEADS, Checkout, RepositoryError
from deferlite.watcher.hints import Relevant, everything

Watch = Callable[[dict[Path, Relevant]], Awaitable[None]]
"""Watches these folders from now on."""

WORKING_TREE = "working tree "
_REF_NAMES = frozenset({"packed-refs", "refs", "reftable"})
_HEAD_NAMES = frozenset({"HEAD", "rebase-merge", "rebase-apply"})
_noise = DefaultFilter()


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


async def look_at_remote(config: EnvironmentConfig) -> Seen:
    """Ask a remote repository. Raises RepositoryError, WorldError."""
    tip = await git.remote_tip(config.repository, config.branch)
    return Seen(tip.commit, tip.branch, tip.subject)


async def look_at_checkout(config: EnvironmentConfig, watch: Watch) -> Seen | None:
    """The commit to build in a local repository; None while a rebase is going on.

    Raises RepositoryError, WorldError.
    """
    checkout = await _opened(config, watch)
    if config.branch is not None:
        await watch(_ref_folders(checkout, HEADS + config.branch, head=False))
    else:
        await watch(_ref_folders(checkout, None, head=True))
        await watch(_ref_folders(checkout, await git.head_ref(checkout), head=True))
        if await anyio.to_thread.run_sync(checkout.is_rebasing):
            return None
    tip = await git.local_tip(checkout, config.branch)
    return Seen(tip.commit, tip.branch, tip.subject)


async def look_at_worktree(config: EnvironmentConfig, watch: Watch) -> Seen:
    """The files of a checkout as they stand. Raises RepositoryError, WorldError."""
    checkout = await _opened(config, watch)
    top = checkout.top
    if top is None:
        raise RepositoryError(
            f"worktree = true needs a checkout, and {checkout.path} is a bare repository: remove worktree"
        )
    names, untracked = await git.worktree_files(top), await git.untracked_folders(top)
    folders = await anyio.to_thread.run_sync(_file_folders, top, names, untracked)
    await watch({**_path_folders(top), **folders})
    fingerprint = await anyio.to_thread.run_sync(fingerprint_of, top, await git.worktree_files(top))
    try:
        tip = await git.local_tip(checkout, None)
    except RepositoryError:  # No commit yet.
        return Seen(None, None, WORKING_TREE + fingerprint, fingerprint)
    return Seen(tip.commit, tip.branch, f"{WORKING_TREE}{fingerprint} on {tip.subject}", fingerprint)


async def _opened(config: EnvironmentConfig, watch: Watch) -> Checkout:
    path = Path(config.repository)
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


def _ref_folders(checkout: Checkout, ref: str | None, *, head: bool) -> dict[Path, Relevant]:
    """Where ``ref`` moves; with ``head`` also where HEAD comes to name another one."""
    common = checkout.common_dir
    names = _REF_NAMES | _HEAD_NAMES if head else _REF_NAMES
    folders: dict[Path, Relevant] = {
        **_path_folders(checkout.path),
        checkout.git_dir: _one_of(names),
        common: _one_of(names),
        common / "reftable": _unlocked,
    }
    folder = common
    for part in PurePosixPath(ref or "").parts:
        # A branch feature/x is a file in a folder: each may come and go.
        if folder != common:
            folders[folder] = _one_of({part})
        folder = folder / part
    return folders


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
