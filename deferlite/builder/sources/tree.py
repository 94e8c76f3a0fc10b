"""Reads one commit out of objects that lie elsewhere, and puts its files into a folder.

From a repository of our own that borrows the objects: filters that the project's or the user's git configuration
names would be programs run outside of the box.
"""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import msgspec

from deferlite.builder.layout import Layout
from deferlite.builder.sources.mirror import empty
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox import git

EXPORT_SECONDS = 600.0
WORKERS = ("-c", "checkout.workers=4")
"""From 100 files on. They wait for the disk: 20,000 files in 4 s with four of them, in 15 s alone, on two cores."""

_MISSING = re.compile(
    "unable to read|bad object|Not a valid object|not a tree object|failed to unpack|unable to unpack|corrupt"
    "|cannot read|does not point to a valid object|is empty|hash mismatch|inflate|not a valid",
    re.IGNORECASE,
)


class Tree(msgspec.Struct, frozen=True):
    """The files of ``commit``, whose objects are in the folder ``objects``."""

    empty: Path
    objects: Path
    commit: str

    async def git(self, *args: str, index: Path | None = None, into: Path | None = None) -> str:
        """What a git command prints that sees these objects, no configuration and no branch. Raises WorldError."""
        variables = git.environment() | {
            "GIT_DIR": str(self.empty),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(self.objects),
        }
        if index is not None and into is not None:
            variables |= {"GIT_WORK_TREE": str(into), "GIT_INDEX_FILE": str(index)}
        return await git.git(*args, cwd=into or self.empty, variables=variables, timeout=EXPORT_SECONDS)

    async def is_there(self) -> bool:
        try:
            await self.git("cat-file", "-e", f"{self.commit}^{{commit}}")
        except WorldError:
            return False
        return True

    async def export(self, destination: Path, index: Path) -> None:
        """Put all files below ``destination``, an empty folder or none; ``index``: a file for git's own use.

        Raises:
            BuildError: the name of one leads elsewhere.
            Damaged: an object of the commit is not there, or not as it was.
            WorldError: git or the disk failed.
        """
        await anyio.Path(destination).mkdir(parents=True, exist_ok=True)
        try:
            await self.git("read-tree", f"{self.commit}^{{tree}}", index=index, into=destination)
            await self.git(*WORKERS, "checkout-index", "--all", "--force", "--quiet", index=index, into=destination)
        except WorldError as error:
            if "invalid path" in str(error):
                raise BuildError(f"commit {self.commit[:12]} holds a name that git refuses: {error}") from None
            kind = Damaged if _MISSING.search(str(error)) else WorldError
            raise kind(f"cannot read commit {self.commit[:12]}: {error}") from None
        finally:
            await anyio.Path(index).unlink(missing_ok=True)


class Damaged(WorldError):
    """Objects of a commit are missing or broken where they were looked for."""


async def tree_of(layout: Layout, objects: Path, commit: str) -> Tree:
    return Tree(await empty(layout, commit), objects, commit)


async def damage_of(repository: Path, commit: str, error: Damaged) -> BuildError:
    """Why a commit of a local repository cannot be read, with the cure."""
    if not await anyio.Path(repository).is_dir():
        return BuildError(f"repository {repository} is not there any more: it was moved or removed")
    if await _is_partial(repository):
        return BuildError(
            f"{repository} is a partial clone, and not all files of commit {commit[:12]} were fetched into it: "
            f"git -C {repository} fetch --refetch --no-filter, or name its remote as repository"
        )
    return BuildError(
        f"{error}; was the branch moved and the commit removed? Otherwise the repository is damaged: "
        f"git -C {repository} fsck says where"
    )


async def _is_partial(repository: Path) -> bool:
    try:
        said = await git.git("config", "--local", "--get-regexp", r"^remote\..*\.promisor$", "^true$", cwd=repository)
    except WorldError:
        return False
    return bool(said)


def _quoted(path: Path) -> str:
    """As git reads a list of folders, in which a colon separates."""
    text = str(path)
    if ":" not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
