"""Gets a commit's files: out of a local repository, a mirror of a remote one, or a checkout as it stands."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import anyio
import anyio.to_thread

from deferlite.builder.layout import Layout
from deferlite.model.environment import EnvironmentConfig, is_remote
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox import git
from deferlite.sandbox.process import output

FETCH_SECONDS = 900.0
EXPORT_SECONDS = 600.0

Say = Callable[[str], None]


class Sources:
    """Fetches sources into build folders; one mirror is written by one build at a time."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._locks: defaultdict[Path, anyio.Lock] = defaultdict(anyio.Lock)

    async def fetch(
        self, config: EnvironmentConfig, commit: str | None, branch: str | None, destination: Path, say: Say
    ) -> None:
        """Put the whole tree of ``commit`` (of a worktree: its files as they are) below ``destination``.

        Raises:
            BuildError: the repository or the commit is not there.
            WorldError: git or the network failed.
        """
        if config.worktree:
            await self._copy(Path(config.repository).expanduser(), destination, say)
            return
        if commit is None:
            raise BuildError("this build names no commit: commit something to the repository")
        if is_remote(config.repository):
            objects = await self._mirrored(config.repository, commit, branch, say)
        else:
            checkout = await _open(Path(config.repository).expanduser())
            objects = checkout.common_dir / "objects"
        await self._export(objects, commit, destination)
        say(f"fetched {commit[:12]} from {git.without_secrets(config.repository)}")
        for warning in await anyio.to_thread.run_sync(_not_fetched, destination):
            say(warning)

    async def _copy(self, repository: Path, destination: Path, say: Say) -> None:
        checkout = await _open(repository)
        if checkout.top is None:
            raise BuildError(f"worktree = true needs a checkout, and {repository} is a bare repository")
        names = await git.worktree_files(checkout.top)
        copied = await anyio.to_thread.run_sync(copy_files, checkout.top, names, destination)
        say(f"copied {copied} files of {repository} as they stand")

    async def _mirrored(self, url: str, commit: str, branch: str | None, say: Say) -> Path:
        """The objects of the mirror of ``url``, with ``commit`` among them."""
        mirror = self._layout.git / hashlib.sha256(url.encode()).hexdigest()[:32]
        async with self._locks[mirror]:
            await _init(mirror, commit)
            if not await _has(mirror, commit):
                say(f"fetching from {git.without_secrets(url)}")
                wanted = f"+refs/heads/{branch}:refs/heads/{branch}" if branch else commit
                options = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
                await git.git("fetch", *options, "--", url, wanted, cwd=mirror, remote=True, timeout=FETCH_SECONDS)
                if not await _has(mirror, commit):
                    raise BuildError(
                        f"commit {commit[:12]} is not on branch {branch} of {git.without_secrets(url)} any more: "
                        "the branch was moved; its newest commit gets a build of its own"
                    )
        return mirror / "objects"

    async def _export(self, objects: Path, commit: str, destination: Path) -> None:
        # From a repository of our own that borrows the objects: filters that the project's or the user's
        # git configuration names would be programs run outside of the box.
        empty = self._layout.git / ("empty-sha256" if len(commit) == 64 else "empty")
        async with self._locks[empty]:
            await _init(empty, commit)
        destination.mkdir(parents=True)
        index = destination.parent / "index"
        variables = git.environment() | {
            "GIT_DIR": str(empty),
            "GIT_WORK_TREE": str(destination),
            "GIT_INDEX_FILE": str(index),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(objects),
        }
        try:
            await _run(["git", "read-tree", f"{commit}^{{tree}}"], destination, variables)
            await _run(["git", "checkout-index", "--all", "--force", "--quiet"], destination, variables)
        except WorldError as error:
            raise WorldError(
                f"cannot read commit {commit[:12]}; was the branch moved and the commit removed? "
                f"{git.without_secrets(str(error))}"
            ) from None
        finally:
            index.unlink(missing_ok=True)


def copy_files(top: Path, names: Sequence[str], destination: Path) -> int:
    """Copy those of ``names`` that exist below ``top``; symlinks stay symlinks. Returns how many.

    An index can name what lies behind ``..`` or behind a folder that has become a link: such files are left out,
    since the server may read and write where the owner of the checkout may not.
    """
    destination.mkdir(parents=True)
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return sum(_copy_file(root, PurePosixPath(name), destination) for name in names)
    finally:
        os.close(root)


def _copy_file(root: int, name: PurePosixPath, destination: Path) -> bool:
    if name.is_absolute() or ".." in name.parts:
        return False
    try:
        folder = _open_folder(root, name.parts[:-1])
    except OSError:
        return False
    try:
        return _copy_from(folder, name.name, destination / name)
    except FileNotFoundError:  # Gone since it was listed: an editor saves by renaming.
        return False
    finally:
        os.close(folder)


def _open_folder(root: int, parts: Sequence[str]) -> int:
    """A folder below ``root``, step by step, following no link. Raises OSError."""
    folder = os.dup(root)
    for part in parts:
        outer = folder
        try:
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
        finally:
            os.close(outer)
    return folder


def _copy_from(folder: int, name: str, target: Path) -> bool:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.readlink(name, dir_fd=folder))
        return True
    if not stat.S_ISREG(status.st_mode):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy)
    target.chmod(stat.S_IMODE(status.st_mode) & 0o777 | stat.S_IRUSR)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return True


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
        raise BuildError(
            f'directory = "{directory}" is not in this commit' + (f"; its folders are: {there}" if there else "")
        )
    return source / project.relative_to(root)


def _not_fetched(tree: Path) -> list[str]:
    """What a checkout by git itself would have put there."""
    warnings = []
    if (tree / ".gitmodules").exists():
        warnings.append("submodules are not fetched yet: their folders are empty (.gitmodules)")
    attributes = tree / ".gitattributes"
    if attributes.is_file() and not attributes.is_symlink() and b"filter=lfs" in attributes.read_bytes():
        warnings.append("files kept by Git LFS are not fetched yet: they are pointers (.gitattributes)")
    return warnings


async def _open(path: Path) -> git.Checkout:
    try:
        return await git.open_checkout(path)
    except git.RepositoryError as error:
        raise BuildError(str(error)) from None


async def _init(repository: Path, commit: str) -> None:
    if not (repository / "HEAD").exists():
        repository.mkdir(parents=True, exist_ok=True)
        kind = "sha256" if len(commit) == 64 else "sha1"
        await git.git("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", str(repository))


async def _has(repository: Path, commit: str) -> bool:
    try:
        await git.git("cat-file", "-e", f"{commit}^{{commit}}", cwd=repository)
    except WorldError:
        return False
    return True


async def _run(argv: list[str], cwd: Path, variables: dict[str, str]) -> None:
    await output(argv, cwd=cwd, env=variables, timeout=EXPORT_SECONDS)


def _quoted(path: Path) -> str:
    """As git reads a list of folders, in which a colon separates."""
    text = str(path)
    if ":" not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
