"""Git as deferlite asks it: never a prompt, no hook, nothing of the repository's configuration that runs a program."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import anyio
import anyio.to_thread
import msgspec

from deferlite.model.errors import DeferliteError, SandboxError, WorldError
from deferlite.sandbox.process import output

HEADS = "refs/heads/"
_SETTINGS = {
    "safe.directory": "*",
    "safe.bareRepository": "all",
    "core.hooksPath": os.devnull,
    # A repository may name programs here that git would start while reading.
    "core.fsmonitor": "false",
    "core.askPass": "",
    # Names need not be UTF-8.
    "core.quotePath": "true",
    "advice.detachedHead": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
_CERTIFICATES = frozenset({"GIT_SSL_CAINFO", "GIT_SSL_CAPATH"})
"""Variables of git that stay: how a machine says which authorities it trusts."""

LONGEST_SUBJECT = 500
"""Characters of a commit's subject that are kept."""

SSH = (
    *("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "StrictHostKeyChecking=yes"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
)
"""A host whose key is not known is not talked to, and one that falls silent for a minute is given up."""

_SECRET = re.compile(r"(?<=://)(?!(?<=ssh://)[^/:@\s]+@)[^/\s]+(?=@)")
"""Over ssh a user's name alone is none."""

_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
_STAGED = re.compile(r"(\d{6}) [0-9a-f]+ [0-3]\t")
_SUBMODULE = "160000"
SAID = re.compile(r"^git \S+ failed: ")


class RepositoryError(DeferliteError):
    """The repository or the branch is not as the environment file says; the message has the cure."""


class Checkout(msgspec.Struct, frozen=True):
    """A local repository: its own git folder, the one it shares with its linked worktrees, and its files' root."""

    path: Path
    git_dir: Path
    common_dir: Path
    top: Path | None
    """None: a bare repository."""

    def is_rebasing(self) -> bool:
        """HEAD runs through commits that are not what anybody asked to build."""
        return any((self.git_dir / name).exists() for name in ("rebase-merge", "rebase-apply"))


def environment(*, remote: bool = False, settings: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """The complete variables of a git command; ``settings`` win over every configuration.

    What is asked of a local repository ignores the machine's and the user's git configuration; what goes over the
    network keeps it, since proxies, certificates and credentials are said there.
    """
    given = [*_SETTINGS.items(), *settings]
    dropped = ("GIT_", "SSH_ASKPASS")
    variables = {
        name: value for name, value in os.environ.items() if name in _CERTIFICATES or not name.startswith(dropped)
    }
    variables |= {
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_PAGER": "cat",
        # Without any, a partial clone cannot have git fetch what is missing, by programs of its own choice.
        "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh" if remote else "",
        "GIT_SSH_COMMAND": shlex.join(SSH),
        "GIT_CONFIG_COUNT": str(len(given)),
    }
    for index, (key, value) in enumerate(given):
        variables[f"GIT_CONFIG_KEY_{index}"] = key
        variables[f"GIT_CONFIG_VALUE_{index}"] = value
    if not remote:
        variables |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    return variables


async def git(
    *args: str, cwd: Path | None = None, timeout: float = 30, variables: Mapping[str, str] | None = None
) -> str:
    """What a git command prints. ``cwd`` is the repository; None: none is looked for.

    Raises:
        WorldError: it failed; what git said, without passwords.
    """
    # A folder inside somebody else's repository is not that repository.
    ceiling = {"GIT_CEILING_DIRECTORIES": str(cwd.parent) if cwd else "/"}
    variables = {**(environment() if variables is None else variables), **ceiling}
    try:
        return await output(["git", *args], cwd=cwd or Path("/"), env=variables, timeout=timeout)
    except WorldError as error:
        raise WorldError(without_secrets(str(error))) from None
    except SandboxError:
        if cwd is not None and not await anyio.Path(cwd).is_dir():
            raise WorldError(f"{cwd} is not there any more") from None
        raise WorldError("git is not installed on this machine, or may not be run: install it") from None


def without_secrets(text: str) -> str:
    """``text`` with the user and password of every address taken out."""
    return _SECRET.sub("•••", text)


async def open_checkout(path: Path) -> Checkout:
    """The repository at ``path``: a checkout, a linked worktree or a bare one.

    Raises:
        RepositoryError: there is none.
    """
    await anyio.to_thread.run_sync(_look_at, path)
    try:
        said = await git("rev-parse", "--absolute-git-dir", "--git-common-dir", "--is-bare-repository", cwd=path)
    except WorldError as error:
        raise RepositoryError(await anyio.to_thread.run_sync(_why_not, path, error)) from None
    try:
        git_dir, common_dir, bare = said.split("\n")
    except ValueError:
        raise RepositoryError(f"repository {path} lies in a folder with a line break in its name: rename it") from None
    # --git-common-dir is relative to where it was asked.
    common = Path(os.path.normpath(path / common_dir))
    return Checkout(path, Path(git_dir), common, None if bare == "true" else path)


def _look_at(path: Path) -> None:
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            return
    except PermissionError:
        raise RepositoryError(
            f"repository {path} may not be read by this user: give it permission (chmod, or a group of its own)"
        ) from None
    kind = "is a file, not a folder" if path.exists() else "does not exist"
    raise RepositoryError(f"repository {path} {kind}: mend the path, or clone the project there")


def _why_not(path: Path, error: WorldError) -> str:
    for parent in path.parents:
        if (parent / ".git").exists() and parent != Path("/"):
            return (
                f"{path} is a folder inside the repository {parent}: "
                f'write repository = "{parent}" and directory = "{path.relative_to(parent)}"'
            )
    if "not a git repository" in str(error):
        return f'{path} is not a git repository: run "git init" and commit there, or mend the path'
    return f"repository {path} cannot be read: {SAID.sub('', str(error))}"


def plain(subject: str) -> str:
    """A line for people, whatever a stranger wrote: no control characters, and not too long."""
    text = subject[: LONGEST_SUBJECT + 1]
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    return text if len(text) <= LONGEST_SUBJECT else text[: LONGEST_SUBJECT - 1] + "…"


class WorktreeFiles(msgspec.Struct, frozen=True):
    """What of a checkout is built as it stands: paths relative to it, in order."""

    names: list[str]
    absent: list[str]
    """Submodules that are not checked out."""


async def worktree_files(top: Path, *, submodules: bool = True) -> WorktreeFiles:
    """Every file of a checkout that git does not ignore, committed or not, with ``submodules`` also theirs."""
    said = await git("ls-files", "--exclude-standard", "--stage", "--cached", "--others", cwd=top)
    names: set[str] = set()
    absent: set[str] = set()
    for line in filter(None, said.split("\n")):
        staged = _STAGED.match(line)
        name = unquoted(line[staged.end() :] if staged else line)
        if staged is None or staged[1] != _SUBMODULE:
            names.add(name)
        elif submodules and await anyio.to_thread.run_sync(_is_checked_out, top, name):
            inner = await worktree_files(top / name)
            names.update(f"{name}/{below}" for below in inner.names)
            absent.update(f"{name}/{below}" for below in inner.absent)
        elif submodules:
            absent.add(name)
    return WorktreeFiles(sorted(names), sorted(absent))


def _is_checked_out(top: Path, name: str) -> bool:
    """An index can name what lies behind ``..`` or a link: that is no submodule of this checkout."""
    path = top / name
    parts = PurePosixPath(name).parts
    return ".." not in parts and (path / ".git").exists() and path.resolve() == top.resolve().joinpath(*parts)


async def untracked_folders(top: Path) -> list[str]:
    """Folders of a checkout without any committed file, empty ones too, that git does not ignore."""
    return [name for name in await _listed(top, "--others", "--directory") if name.endswith("/")]


async def _listed(top: Path, *options: str) -> list[str]:
    said = await git("ls-files", "--exclude-standard", *options, cwd=top)
    return [unquoted(name) for name in said.split("\n") if name]


def unquoted(name: str) -> str:
    """A file's name out of git's quotes, which all get but those of plain ASCII."""
    if not name.startswith('"'):
        return name
    return os.fsdecode(_ESCAPE.sub(lambda found: _sign(found[1]), os.fsencode(name[1:-1])))


def _sign(escape: bytes) -> bytes:
    return bytes((int(escape, 8),)) if len(escape) == 3 else _ESCAPES.get(escape, escape)
