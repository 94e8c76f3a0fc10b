"""Gets a commit's files: out of a local repository, a mirror of a remote one, or a checkout as it stands."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from deferlite.builder.layout import Layout
from deferlite.builder.sources.copy import copy_files
from deferlite.builder.sources.fetch import Fetching
from deferlite.builder.sources.lfs import MOST_NAMED, place_large_files
from deferlite.builder.sources.mirror import mirror_of
from deferlite.model.environment import EnvironmentConfig, is_remote
from deferlite.model.errors import BuildError, WorldError
from deferlite.model.words import plural
from deferlite.sandbox import git
from deferlite.sandbox.access import Access, access_of, address_of
from deferlite.sandbox.refs import commits_of_names

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_SHA = re.compile(r"[0-9a-f]{4,64}")

Say = Callable[[str], None]


class Sources:
    """Fetches sources into build folders."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def fetch(
        self, config: EnvironmentConfig, commit: str | None, branch: str | None, destination: Path, say: Say
    ) -> None:
        """Put the whole tree of ``commit`` (of a worktree: its files as they are) below ``destination``.

        Raises:
            BuildError: the repository or the commit is not there, or a submodule is not to be had.
            WorldError: git or the network failed.
        """
        if config.worktree:
            await _copy(config, destination, say)
            return
        if commit is None:
            raise BuildError("this build names no commit: commit something to the repository")
        access = await _access(config)
        await anyio.Path(destination).mkdir(parents=True)
        await Fetching(self._layout, config, access, destination, say).run(commit, branch)


async def _access(config: EnvironmentConfig) -> Access | None:
    try:
        return await anyio.to_thread.run_sync(access_of, config.git)
    except git.RepositoryError as error:
        raise BuildError(str(error)) from None


async def _copy(config: EnvironmentConfig, destination: Path, say: Say) -> None:
    checkout = await _open(config)
    if checkout.top is None:
        raise BuildError(f"worktree = true needs a checkout, and {checkout.path} is a bare repository")
    files = await git.worktree_files(checkout.top, submodules=config.git.submodules)
    copied = await anyio.to_thread.run_sync(copy_files, checkout.top, files.names, destination)
    say(f"copied {plural(copied, 'file')} of {checkout.path} as they stand")
    if files.absent:
        listed = ", ".join(map(git.plain, files.absent[:MOST_NAMED]))
        say(f"submodules that are not checked out are left out: {listed}: git submodule update --init --recursive")
    for line in (await anyio.to_thread.run_sync(place_large_files, destination, ())).told():
        say(line)


async def _open(config: EnvironmentConfig) -> git.Checkout:
    try:
        return await git.open_checkout(Path(config.repository))
    except git.RepositoryError as error:
        raise BuildError(str(error)) from None


async def history_of(layout: Layout, config: EnvironmentConfig) -> Path | None:
    """The git folder that knows the commits of the environment's builds; None: there is none yet."""
    if is_remote(config.repository):
        mirror = mirror_of(layout, config.repository)
        return mirror if await anyio.Path(mirror, "HEAD").exists() else None
    try:
        return (await git.open_checkout(Path(config.repository))).common_dir
    except (git.RepositoryError, WorldError):
        return None


async def resolve_commit(layout: Layout, config: EnvironmentConfig, text: str) -> str:
    """The full SHA of the commit that a person named: by a SHA, the beginning of one, a branch, a tag.

    A full SHA of a remote repository is taken as it is: the build finds out whether there is such a commit.

    Raises:
        BuildError: there is none, or several; the message has the cure.
        WorldError: the remote repository does not answer.
    """
    text = text.strip()
    if config.worktree:
        raise BuildError("this environment builds its files as they stand (worktree = true): it has no commits")
    if not text or text.startswith("-") or not text.isprintable():
        raise BuildError(f"{text!r} is not a commit: name it by its SHA")
    if is_remote(config.repository):
        return await _resolve_remote(layout, config, text)
    checkout = await _open(config)
    shown = str(checkout.path)
    return await _parsed(checkout.common_dir, text, shown, f"git -C {shown} log --all shows them")


async def _resolve_remote(layout: Layout, config: EnvironmentConfig, text: str) -> str:
    if _SHA.fullmatch(text.lower()):
        return text.lower()
    address = address_of(config.repository, await _access(config))
    names = await commits_of_names(address)
    for name in (f"refs/heads/{text}", f"refs/tags/{text}", text):
        if name in names:
            return names[name]
    found = {commit for commit in names.values() if commit.startswith(text.lower())}
    if len(found) == 1 and _SHORT_SHA.fullmatch(text.lower()):
        return found.pop()
    history = await history_of(layout, config)
    cure = "write its whole SHA, or a branch or tag"
    if history is None or not _SHORT_SHA.fullmatch(text.lower()):
        raise BuildError(f'repository {address.shown} has no commit "{text}": {cure}')
    return await _parsed(history, text, address.shown, cure)


async def _parsed(git_dir: Path, text: str, shown: str, cure: str) -> str:
    try:
        said = await git.git("rev-parse", "--verify", "--end-of-options", f"{text}^{{commit}}", cwd=git_dir)
    except WorldError as error:
        if "ambiguous" in str(error):
            raise BuildError(f'"{text}" begins several commits of {shown}: write more of it') from None
        raise BuildError(f'repository {shown} has no commit "{text}": {cure}') from None
    return said.strip()


def project_folder(source: Path, directory: str) -> Path:
    """The project inside a fetched tree.

    Raises:
        BuildError: it is not there, or a symlink leads out of the repository.
    """
    root = source.resolve()
    project = Path(os.path.realpath(root / directory))
    if not project.is_relative_to(root):
        raise BuildError(f'directory = "{directory}" leads out of the repository')
    if not project.is_dir():
        there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".")[:10])
        known = f"; its folders are: {there}" if there else ", which has no folders"
        raise BuildError(f'directory = "{directory}" is not in this commit{known}')
    return source / project.relative_to(root)
