"""One build's files, fetched: the commit of its repository, and those that it records of its submodules."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path, PurePosixPath

import anyio
import anyio.to_thread
import msgspec

from deferlite.builder.layout import Layout, remove_tree
from deferlite.builder.sources.copy import folder_below
from deferlite.builder.sources.lfs import place_large_files
from deferlite.builder.sources.mirror import bring, mirror_of, renew, submodule_mirror
from deferlite.builder.sources.modules import FILE, TRANSPORTS, Submodule, is_allowed, resolve_url, submodules_of
from deferlite.builder.sources.tree import Damaged, Tree, damage_of, tree_of
from deferlite.model.environment import EnvironmentConfig, is_remote
from deferlite.model.errors import BuildError, DeferliteError, WorldError
from deferlite.sandbox import git
from deferlite.sandbox.access import Access, Address, address_of

MOST_SUBMODULES = 500
"""In one build: a few commits that hold each other could unfold into any number."""

Say = Callable[[str], None]


class Origin(msgspec.Struct, frozen=True):
    """Where a repository's objects are, and what is known about it besides."""

    repository: Path
    """The mirror, or what its owner calls it."""
    address: Address | None = None
    """None: a local repository."""
    git_dirs: tuple[Path, ...] = ()
    """Git folders of this machine, whose owner may name others of its; none: a mirror."""
    top: Path | None = None
    """A local repository's checked out files."""
    bring: Callable[[], Awaitable[None]] | None = None
    """Fetches the commit into the mirror."""

    @property
    def objects(self) -> Path:
        return (self.git_dirs[-1] if self.git_dirs else self.repository) / "objects"


class Fetching:
    """Puts a repository's files, and those of its submodules, below ``destination``."""

    def __init__(
        self, layout: Layout, config: EnvironmentConfig, access: Access | None, destination: Path, say: Say
    ) -> None:
        self._layout = layout
        self._config = config
        self._access = access
        self._destination = destination
        self._say = say
        self._submodules = 0

    async def run(self, commit: str, branch: str | None) -> None:
        """Raises BuildError, WorldError."""
        repository = self._config.repository
        if is_remote(repository):
            mirror = mirror_of(self._layout, repository)
            origin = self._mirrored(mirror, address_of(repository, self._access), commit, branch)
        else:
            origin = await self._local(Path(repository))
        await self._put(origin, commit, PurePosixPath())
        self._say(f"fetched {commit[:12]} from {git.without_secrets(repository)}")

    def _mirrored(
        self, mirror: Path, address: Address, commit: str, branch: str | None, protocols: str | None = None
    ) -> Origin:
        fetch = partial(bring, mirror, address, commit, branch, self._say, protocols=protocols)
        return Origin(mirror, address, bring=fetch)

    async def _local(self, path: Path) -> Origin:
        try:
            checkout = await git.open_checkout(path)
        except git.RepositoryError as error:
            raise BuildError(str(error)) from None
        folders = tuple(dict.fromkeys((checkout.git_dir, checkout.common_dir)))
        return Origin(path, git_dirs=folders, top=checkout.top)

    async def _base(self, origin: Origin) -> Address | None:
        """What relative addresses are relative to; None: it was cloned from no other machine."""
        if origin.address is not None:
            return origin.address
        url = await _setting(origin.git_dirs[-1], "remote.origin.url")
        return address_of(url, self._access) if url is not None and is_remote(url) else None

    async def _put(self, origin: Origin, commit: str, below: PurePosixPath) -> None:
        tree = await self._exported(origin, commit, self._destination / below)
        large = await anyio.to_thread.run_sync(place_large_files, self._destination / below, origin.git_dirs)
        for line in large.told():
            self._say(line if below == PurePosixPath() else f"{below}: {line}")
        # Written a moment ago: without it git has not to be asked.
        if not await anyio.to_thread.run_sync(os.path.lexists, self._destination / below / FILE):
            return
        submodules = await submodules_of(tree)
        if submodules and not self._config.git.submodules:
            names = ", ".join(submodule.path for submodule in submodules)
            self._say(f"submodules are left out, as [git] submodules = false says: {names}")
            return
        for submodule in submodules:
            await self._put_submodule(origin, submodule, below)

    async def _exported(self, origin: Origin, commit: str, destination: Path) -> Tree:
        if origin.bring is not None:
            await origin.bring()
        tree = await tree_of(self._layout, origin.objects, commit)
        index = self._destination.parent / "index"
        try:
            await tree.export(destination, index)
        except Damaged as error:
            if origin.bring is None:
                raise await damage_of(origin.repository, commit, error) from None
            self._say("what was kept of the repository is damaged: it is fetched again")
            await renew(origin.repository)
            await remove_tree(destination)
            await origin.bring()
            await tree.export(destination, index)
        return tree

    async def _put_submodule(self, outer: Origin, submodule: Submodule, below: PurePosixPath) -> None:
        path = below / submodule.path
        self._submodules += 1
        if self._submodules > MOST_SUBMODULES:
            raise BuildError(f"more than {MOST_SUBMODULES} submodules: leave them out with [git] submodules = false")
        if not await anyio.to_thread.run_sync(_is_free, self._destination, path):
            raise BuildError(f"submodule {path}: there is something else in its place: mend .gitmodules")
        try:
            origin = await self._origin_of(submodule, outer)
            await self._put(origin, submodule.commit, path)
        except DeferliteError as error:
            kind = BuildError if isinstance(error, BuildError) else WorldError
            said = str(error)
            raise kind(said if said.startswith("submodule ") else f"submodule {path}: {said}") from None
        where = origin.address.shown if origin.address and origin.bring else origin.repository
        self._say(f"fetched {submodule.commit[:12]} for {path} from {where}")

    async def _origin_of(self, submodule: Submodule, outer: Origin) -> Origin:
        """Where its commit is: with the checkout already, where the checkout's owner says, or where the commit says."""
        cloned = await self._cloned(submodule, outer)
        if cloned is not None:
            return cloned
        for git_dir in outer.git_dirs:
            url = await _setting(git_dir, f"submodule.{submodule.name}.url")
            if url is not None:
                return await self._named_by_owner(url, submodule, outer)
        base = await self._base(outer)
        return self._fetched(self._address(submodule, outer, base), submodule, base)

    async def _cloned(self, submodule: Submodule, outer: Origin) -> Origin | None:
        places = [(git_dir, git_dir / "modules" / submodule.name) for git_dir in outer.git_dirs]
        if outer.top is not None:
            places.append((outer.top, outer.top / submodule.path / ".git"))
        for root, git_dir in places:
            if await anyio.to_thread.run_sync(_is_inside, root, git_dir):
                origin = Origin(git_dir, git_dirs=(git_dir,))
                if await (await tree_of(self._layout, origin.objects, submodule.commit)).is_there():
                    return origin
        return None

    async def _named_by_owner(self, url: str, submodule: Submodule, outer: Origin) -> Origin:
        path = url.removeprefix("file://")
        if path.startswith("/"):
            return await self._local(Path(path))
        return self._fetched(url, submodule, await self._base(outer))

    def _address(self, submodule: Submodule, outer: Origin, base: Address | None) -> str:
        url = submodule.url if base is None else resolve_url(base.url, submodule.url)
        if not is_allowed(url):
            shown = git.without_secrets(url)
            raise BuildError(
                f"its url {shown} is no address of another machine, and a commit may name no folder of this one: "
                + self._cure(outer)
            )
        return url

    def _cure(self, outer: Origin) -> str:
        if outer.git_dirs:
            return f"git -C {outer.repository} submodule update --init, or leave it out with [git] submodules = false"
        return "write an https or ssh address in .gitmodules, or leave it out with [git] submodules = false"

    def _fetched(self, url: str, submodule: Submodule, base: Address | None) -> Origin:
        mirror = submodule_mirror(self._layout, self._config.repository, url)
        return self._mirrored(mirror, self._known(url, base), submodule.commit, None, TRANSPORTS)

    def _known(self, url: str, base: Address | None) -> Address:
        """``url``, with the password of the repository that names it if that is on the same host."""
        others = None if self._access is None else msgspec.structs.replace(self._access, username="git", token=None)
        address = address_of(url, others)
        if base is not None and base.place == address.place and address.access.token is None:
            return msgspec.structs.replace(address, access=base.access)
        return address


async def _setting(git_dir: Path, name: str) -> str | None:
    """What the owner of a git folder has written into its configuration."""
    try:
        return await git.git("config", "--file", str(git_dir / "config"), "--no-includes", "--get", name)
    except WorldError:
        return None


def _is_inside(root: Path, git_dir: Path) -> bool:
    """A git folder below ``root`` that no link leads out of."""
    return (git_dir / "objects").is_dir() and git_dir.resolve().is_relative_to(root.resolve())


def _is_free(root: Path, path: PurePosixPath) -> bool:
    """Whether there is an empty folder at ``path``, and no link on the way to it."""
    try:
        with folder_below(root, path.parts) as folder, os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return False
