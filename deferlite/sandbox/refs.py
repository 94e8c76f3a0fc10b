"""Branches and commits of repositories, local and remote."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import anyio.to_thread
import msgspec

from deferlite.model.changes import Commit
from deferlite.model.errors import WorldError
from deferlite.sandbox.access import Access, Address, address_of, ask
from deferlite.sandbox.git import HEADS, Checkout, RepositoryError, git, plain

_FORM = "--format=%(objecttype) %(HEAD) %(objectname) %(committerdate:unix) %(refname) %(subject)"
_SECOND = 1_000_000
_LAST = 253_402_300_799
"""The end of the year 9999, in seconds: whoever commits may write any time."""

PEELED = "^{}"
"""Follows a tag's name in what a remote repository lists, for the commit that the tag is of."""


class Ref(msgspec.Struct, frozen=True):
    """What a branch names."""

    commit: str
    subject: str = ""
    committed_at: int | None = None
    """Microseconds since 1970, UTC; None: not known, as of a remote repository."""


class Tip(msgspec.Struct, frozen=True):
    """The newest commit of what an environment follows; ``branch`` None: a detached HEAD."""

    commit: str
    branch: str | None
    subject: str = ""


class Refs(msgspec.Struct, frozen=True):
    """A repository's branches at one moment."""

    heads: dict[str, Ref]
    head: str | None
    """The branch that HEAD names, with or without commits; None: it is detached."""
    detached: Ref | None = None
    """What a detached HEAD names."""


async def local_refs(checkout: Checkout) -> Refs:
    """The branches of a local repository. Raises WorldError."""
    try:
        said = await git("for-each-ref", _FORM, HEADS, cwd=checkout.path)
    except WorldError:
        return await _damaged_refs(checkout)
    # Of a repository with tens of thousands of branches the loop would stand still.
    refs = await anyio.to_thread.run_sync(_listed, said)
    return refs if refs.head is not None else await _with_strange_head(checkout, refs.heads)


def _listed(said: str) -> Refs:
    heads: dict[str, Ref] = {}
    head = None
    # Names and subjects may hold what splitlines() takes for the end of a line.
    for line in said.split("\n"):
        if not line.startswith("commit "):  # A tag of any kind is no branch.
            continue
        mark, commit, seconds, name, subject = _fields(line)
        heads[name] = Ref(commit, plain(subject), _moment(seconds))
        head = name if mark == "*" else head
    return Refs(heads, head)


def _fields(line: str) -> tuple[str, str, str, str, str]:
    rest = line.removeprefix("commit ")
    commit, seconds, name, subject = rest[2:].split(" ", 3)
    return rest[0], commit, seconds, name.removeprefix(HEADS), subject


def _moment(seconds: str) -> int:
    """Microseconds; 0 where a commit has no time that can be read."""
    return min(int(seconds), _LAST) * _SECOND if seconds.isdecimal() else 0


async def _with_strange_head(checkout: Checkout, heads: dict[str, Ref]) -> Refs:
    """HEAD is detached, or names a branch without commits."""
    head = await _head(checkout)
    if head is not None:
        return Refs(heads, head)
    form = "--format=%H %ct %s"
    try:
        said = await git("rev-list", "--max-count=1", "--no-commit-header", form, "HEAD", "--", cwd=checkout.path)
    except WorldError:
        return Refs(heads, None)
    commit, seconds, subject = said.split(" ", 2)
    return Refs(heads, None, Ref(commit, plain(subject), _moment(seconds)))


async def _damaged_refs(checkout: Checkout) -> Refs:
    """One branch whose commit is missing does not hide the others."""
    said = await git("for-each-ref", "--format=%(objectname) %(refname)", HEADS, cwd=checkout.path)
    lines = (line.partition(" ") for line in said.split("\n") if line)
    heads = {name.removeprefix(HEADS): Ref(commit) for commit, _, name in lines}
    return await _with_strange_head(checkout, heads)


async def _head(checkout: Checkout) -> str | None:
    try:
        name = (await git("symbolic-ref", "-q", "HEAD", cwd=checkout.path)).strip()
    except WorldError:
        return None
    return name.removeprefix(HEADS)


async def remote_refs(url: str, access: Access | None) -> Refs:
    """The branches of a remote repository; subjects and times are not known.

    Raises:
        WorldError: it does not answer, or refuses; the message has the cure.
    """
    address = address_of(url, access)
    said = await ask(address, "ls-remote", "--symref", "--", address.url, "HEAD", HEADS + "*")
    heads: dict[str, Ref] = {}
    head = detached = None
    for line in said.split("\n"):
        left, _, name = line.partition("\t")
        if left.startswith("ref: ") and name == "HEAD":
            head = left.removeprefix("ref: ").removeprefix(HEADS)
        elif left and name == "HEAD":
            detached = Ref(left)
        elif name.endswith(PEELED):  # A tag of any kind is no branch.
            heads.pop(name.removeprefix(HEADS).removesuffix(PEELED), None)
        elif left and name.startswith(HEADS):
            heads[name.removeprefix(HEADS)] = Ref(left)
    return Refs(heads, head, None if head else detached)


async def commits_of_names(address: Address) -> dict[str, str]:
    """The commit of every branch and tag of a remote repository, by its full name. Raises WorldError."""
    said = await ask(address, "ls-remote", "--heads", "--tags", "--", address.url)
    names: dict[str, str] = {}
    for line in said.split("\n"):
        commit, _, name = line.partition("\t")
        # The commit of a tag follows the tag.
        names[name.removesuffix(PEELED)] = commit
    return names


def tip_of(refs: Refs, branch: str | None, shown: str) -> Tip:
    """The commit that ``branch`` names, None: what HEAD names; ``shown``: the repository, for people.

    Raises:
        RepositoryError: no such branch, or no commit yet.
    """
    name = branch or refs.head
    if name is None and refs.detached is not None:
        return Tip(refs.detached.commit, None, refs.detached.subject)
    if name is not None and name in refs.heads:
        return Tip(refs.heads[name].commit, name, refs.heads[name].subject)
    raise _no_branch(shown, name or "HEAD", refs.heads, asked=branch is not None)


def _no_branch(repository: str, name: str, existing: Iterable[str], *, asked: bool) -> RepositoryError:
    names = sorted(existing)
    if not names:
        return RepositoryError(f"repository {repository} has no commit yet: it is built as soon as it has one")
    near = difflib.get_close_matches(name, names, n=3) or names[:5]
    listed = f"there {'is' if len(near) == 1 else 'are'} {', '.join(near)}"
    if asked:
        return RepositoryError(
            f'repository {repository} has no branch "{name}": mend branch in the file, or create it ({listed})'
        )
    return RepositoryError(
        f'HEAD of repository {repository} names the branch "{name}", which has no commit: '
        f'write branch = "{near[0]}" in the file, or commit to it ({listed})'
    )


async def is_ancestor(git_dir: Path, ancestor: str, descendant: str) -> bool | None:
    """Whether ``descendant`` holds all that ``ancestor`` does; None: one of them is not there."""
    try:
        return not await git("rev-list", "--max-count=1", ancestor, f"^{descendant}", "--", cwd=git_dir)
    except WorldError:
        return None


async def commits_between(git_dir: Path, old: str, new: str, limit: int = 50) -> tuple[tuple[Commit, ...], int]:
    """Commits that ``new`` has and ``old`` has not, newest first, and how many there are besides the first ``limit``.

    None where the repository does not know both of them. Times are microseconds.
    """
    form = ("--no-commit-header", "--encoding=UTF-8", "--format=%H%x00%ct%x00%an%x00%s")
    span = (new, f"^{old}", "--")
    try:
        said = await git("rev-list", f"--max-count={limit}", *form, *span, cwd=git_dir)
        commits = tuple(_commit(line) for line in said.split("\n") if "\0" in line)
        if len(commits) < limit:
            return commits, 0
        return commits, int(await git("rev-list", "--count", *span, cwd=git_dir)) - len(commits)
    except WorldError:
        return (), 0


async def subject_of(git_dir: Path, commit: str) -> str:
    """The first line of a commit's message; empty where the repository does not know the commit."""
    form = ("--max-count=1", "--no-commit-header", "--encoding=UTF-8", "--format=%s")
    try:
        return plain((await git("rev-list", *form, commit, "--", cwd=git_dir)).strip())
    except WorldError:
        return ""


def _commit(line: str) -> Commit:
    commit, seconds, author, subject = line.split("\0", 3)
    return Commit(id=commit, subject=plain(subject), author=plain(author), at=_moment(seconds))
