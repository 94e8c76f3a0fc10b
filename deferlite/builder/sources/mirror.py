"""Mirrors: repositories of our own, below the cache, that hold what was fetched of remote ones.

They are written by this process alone, and one mirror by one build at a time. They hold as much history as people
want to read of a build, not all: the first build of a huge repository must not wait for its past.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from deferlite.builder.layout import Layout, remove_tree
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox import git
from deferlite.sandbox.access import Address
from deferlite.sandbox.transfer import fetch

DEPTH = 50
"""Commits of a branch that are fetched with its tip; from then on all of them."""

EMPTY = "empty"
"""Begins the names of repositories that hold nothing and borrow objects."""

_MODULES = ".modules"
_DAMAGED = re.compile(
    "not a git repository|bad object|corrupt|unable to (read|parse)|invalid (sha1|object|pack)|loose object"
    "|missing (blob|tree|commit|necessary)|did not send all|mismatched algorithms|cannot lock|bad (ref|config)",
    re.IGNORECASE,
)
_GONE = re.compile("not our ref|couldn't find remote ref|unadvertised object|no such remote ref", re.IGNORECASE)

Say = Callable[[str], None]
log = logging.getLogger("deferlite.builder")
_locks: defaultdict[Path, anyio.Lock] = defaultdict(anyio.Lock)


def key_of(address: str) -> str:
    """A folder's name for what may hold any sign, and a password."""
    return hashlib.sha256(address.encode()).hexdigest()[:32]


def mirror_of(layout: Layout, repository: str) -> Path:
    return layout.git / key_of(repository)


def submodule_mirror(layout: Layout, repository: str, url: str) -> Path:
    """The mirror of a submodule of ``repository``, which no other repository shares: it may be private."""
    return layout.git / (key_of(repository) + _MODULES) / key_of(url)


async def empty(layout: Layout, commit: str) -> Path:
    """A repository without configuration and content, of the hash that ``commit`` is of."""
    repository = layout.git / (f"{EMPTY}-sha256" if len(commit) == 64 else EMPTY)
    async with _locks[repository]:
        if not await anyio.Path(repository, "HEAD").exists():
            await _init(repository, commit)
    return repository


async def bring(
    mirror: Path, address: Address, commit: str, branch: str | None, say: Say, *, protocols: str | None = None
) -> None:
    """Have ``commit`` and its files in ``mirror``. ``branch``: where it is looked for first.

    Raises:
        BuildError: the remote repository has no such commit any more.
        WorldError: it does not answer, or refuses.
    """
    async with _locks[mirror]:
        try:
            await _bring(mirror, address, commit, branch, say, protocols)
        except WorldError as error:
            if not _DAMAGED.search(str(error)) or "remote: " in str(error):
                raise
            say("what was kept of the repository is damaged: it is fetched again")
            await remove_tree(mirror)
            await _bring(mirror, address, commit, branch, say, protocols)


async def renew(mirror: Path) -> None:
    """Forget what was fetched: the next build fetches it again."""
    async with _locks[mirror]:
        await remove_tree(mirror)


async def _bring(
    mirror: Path, address: Address, commit: str, branch: str | None, say: Say, protocols: str | None
) -> None:
    await _init(mirror, commit)
    if await has(mirror, commit):
        return
    await anyio.to_thread.run_sync(_tidy, mirror)
    say(f"fetching from {address.shown}")
    for wanted, kept in _wanted(commit, branch):
        known = await has(mirror, kept)
        try:
            await _fetch(mirror, address, f"+{wanted}:{kept}", say, None if known else DEPTH, protocols)
        except WorldError as error:
            if not _GONE.search(str(error)):
                raise
        if await has(mirror, commit):
            return
    where = f"on branch {branch}" if branch else "in the repository"
    raise BuildError(
        f"commit {commit[:12]} is not {where} of {address.shown} any more: "
        "the branch was moved or removed; its newest commit gets a build of its own"
    )


def _wanted(commit: str, branch: str | None) -> Iterator[tuple[str, str]]:
    """What to ask for, and the name it is kept under, by which git knows next time what is there already."""
    if branch is not None:
        # Not under its own name: branch a/b may come when branch a has gone.
        yield f"{git.HEADS}{branch}", f"refs/branches/{key_of(branch)}"
    yield commit, f"refs/commits/{commit}"


async def _fetch(
    mirror: Path, address: Address, wanted: str, say: Say, depth: int | None, protocols: str | None
) -> None:
    try:
        await fetch(mirror, address, wanted, say, depth=depth, protocols=protocols)
    except WorldError as error:
        if "does not support shallow" not in str(error):
            raise
        await fetch(mirror, address, wanted, say, depth=None, protocols=protocols)


async def _init(repository: Path, commit: str) -> None:
    kind = "sha256" if len(commit) == 64 else "sha1"
    if await anyio.Path(repository, "HEAD").exists():
        if kind in await git.git("rev-parse", "--show-object-format", cwd=repository):
            return
        await remove_tree(repository)
    await anyio.Path(repository).mkdir(parents=True, exist_ok=True)
    await git.git("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", str(repository))


async def has(repository: Path, commit: str) -> bool:
    """Whether ``commit`` is there; without ``repository`` it is not."""
    if not await anyio.Path(repository).is_dir():
        return False
    try:
        await git.git("cat-file", "-e", f"{commit}^{{commit}}", cwd=repository)
    except WorldError:
        return False
    return True


def _tidy(mirror: Path) -> None:
    """Remove what a killed git left behind, which would stop the next one."""
    left = [*mirror.glob("*.lock"), *mirror.glob("refs/**/*.lock"), *mirror.glob("objects/pack/tmp_*")]
    for path in left:
        path.unlink(missing_ok=True)


async def prune_mirrors(layout: Layout, used_repositories: Collection[str]) -> None:
    """Remove what was fetched of repositories that are not in use, and pack what was fetched of the others.

    ``used_repositories``: ``repository`` of every active environment, as its file says. Never raises.
    """
    used = {key_of(repository) for repository in used_repositories}
    try:
        for folder in await anyio.to_thread.run_sync(_folders, layout.git):
            if folder.name.removesuffix(_MODULES) in used:
                await _pack(folder)
            else:
                async with _locks[folder]:
                    await remove_tree(folder)
                _locks.pop(folder, None)
    except OSError:
        log.exception("mirrors of repositories could not be removed")


def _folders(parent: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(EMPTY)]
    return []


async def _pack(folder: Path) -> None:
    mirrors = [folder] if not folder.name.endswith(_MODULES) else await anyio.to_thread.run_sync(_folders, folder)
    for mirror in mirrors:
        async with _locks[mirror]:
            with suppress(WorldError):
                options = ("-c", "gc.auto=2000", "-c", "gc.autoDetach=false")
                await git.git(*options, "gc", "--auto", "--quiet", cwd=mirror, timeout=600)
