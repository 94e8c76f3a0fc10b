"""Git as deferlite asks it: never a prompt, no hook, nothing of the repository's configuration that runs a program."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

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
    "core.quotePath": "false",
    "advice.detachedHead": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
LONGEST_SUBJECT = 500
"""Characters of a commit's subject that are kept."""

_SECRET = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_ESCAPE = re.compile(r"\\([0-7]{3}|.)")
_ESCAPES = {"a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
_SAID = re.compile(r"^git \S+ failed: ")


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


class Tip(msgspec.Struct, frozen=True):
    """The newest commit of what an environment follows; ``branch`` None: a detached HEAD."""

    commit: str
    branch: str | None
    subject: str = ""


def environment(*, remote: bool = False) -> dict[str, str]:
    """The complete variables of a git command.

    What is asked of a local repository ignores the machine's and the user's git configuration; what goes over the
    network keeps it, since proxies, certificates and credentials are said there.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SSH_ASKPASS"))}
    variables |= {
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_PAGER": "cat",
        "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=15",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    }
    for index, (key, value) in enumerate(_SETTINGS.items()):
        variables[f"GIT_CONFIG_KEY_{index}"] = key
        variables[f"GIT_CONFIG_VALUE_{index}"] = value
    if not remote:
        variables |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    return variables


async def git(*args: str, cwd: Path | None = None, remote: bool = False, timeout: float = 30) -> str:
    """What a git command prints. ``cwd`` is the repository; None: none is looked for.

    Raises:
        WorldError: it failed; what git said, without passwords.
    """
    variables = environment(remote=remote)
    # A folder inside somebody else's repository is not that repository.
    variables["GIT_CEILING_DIRECTORIES"] = str(cwd.parent) if cwd else "/"
    try:
        return await output(["git", *args], cwd=cwd or Path("/"), env=variables, timeout=timeout)
    except WorldError as error:
        raise WorldError(without_secrets(str(error))) from None
    except SandboxError:
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
    return f"repository {path} cannot be read: {_SAID.sub('', str(error))}"


async def local_tip(checkout: Checkout, branch: str | None) -> Tip:
    """The commit that ``branch`` names now; None: what HEAD names, branch or commit.

    Raises:
        RepositoryError: no such branch, or no commit yet.
        WorldError: git failed.
    """
    ref = HEADS + branch if branch else await head_ref(checkout)
    if ref is None:
        said = await git("rev-list", "--max-count=1", "--format=%s", "HEAD", "--", cwd=checkout.path)
        commit, _, subject = said.removeprefix("commit ").partition("\n")
        return Tip(commit, None, _plain(subject))
    form = "--format=%(refname) %(objectname) %(subject)"
    # Names and subjects may hold what splitlines() takes for the end of a line.
    for line in (await git("for-each-ref", form, ref, cwd=checkout.path)).split("\n"):
        name, _, rest = line.partition(" ")
        if name == ref:
            commit, _, subject = rest.partition(" ")
            return Tip(commit, ref.removeprefix(HEADS), _plain(subject))
    said = await git("for-each-ref", "--format=%(refname)", HEADS, cwd=checkout.path)
    raise _no_branch(str(checkout.path), ref, filter(None, said.split("\n")), asked=branch is not None)


def _plain(subject: str) -> str:
    """A line for people, whatever the commit's author wrote: no control characters, and not too long."""
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in subject)
    return text if len(text) <= LONGEST_SUBJECT else text[: LONGEST_SUBJECT - 1] + "…"


async def head_ref(checkout: Checkout) -> str | None:
    """The full name of the branch that HEAD names, with or without commits; None: HEAD is detached."""
    try:
        return (await git("symbolic-ref", "-q", "HEAD", cwd=checkout.path)).strip()
    except WorldError:
        return None


def _no_branch(repository: str, ref: str, existing: Iterable[str], *, asked: bool) -> RepositoryError:
    name = ref.removeprefix(HEADS)
    names = [other.removeprefix(HEADS) for other in existing]
    if not names:
        return RepositoryError(f"repository {repository} has no commit yet: it is built as soon as it has one")
    near = difflib.get_close_matches(name, names, n=3) or sorted(names)[:5]
    listed = ", ".join(near)
    if asked:
        return RepositoryError(
            f'repository {repository} has no branch "{name}": mend branch in the file, or create it '
            f"(there {'is' if len(near) == 1 else 'are'} {listed})"
        )
    return RepositoryError(
        f'HEAD of repository {repository} names the branch "{name}", which has no commit: '
        f'write branch = "{near[0]}" in the file, or commit to it (there {"is" if len(near) == 1 else "are"} {listed})'
    )


async def remote_tip(url: str, branch: str | None) -> Tip:
    """As ``local_tip``, asked of a remote repository; its subject is not known.

    Raises:
        RepositoryError: no such branch, or no commit yet.
        WorldError: it does not answer, or refuses.
    """
    shown = without_secrets(url)
    try:
        said = await git("ls-remote", "--symref", "--", url, "HEAD", HEADS + "*", remote=True)
    except WorldError as error:
        raise WorldError(f"repository {shown} does not answer: {_advice(_SAID.sub('', str(error)))}") from None
    refs, head = _advertised(said)
    ref = HEADS + branch if branch else head
    if ref in refs:
        return Tip(refs[ref], ref.removeprefix(HEADS))
    if branch is None and "HEAD" in refs:
        return Tip(refs["HEAD"], None)
    raise _no_branch(shown, ref or HEADS + "HEAD", (name for name in refs if name != "HEAD"), asked=bool(branch))


def _advertised(said: str) -> tuple[dict[str, str], str | None]:
    """What ls-remote lists: refs with their commits, and the branch that HEAD names."""
    refs: dict[str, str] = {}
    head = None
    for line in said.split("\n"):
        left, _, name = line.partition("\t")
        if left.startswith("ref: ") and name == "HEAD":
            head = left.removeprefix("ref: ")
        elif left and name:
            refs[name] = left
    return refs, head


def _advice(said: str) -> str:
    last = " ".join(said.split())
    if "Host key verification failed" in said:
        return f"{last} (add the host to known_hosts of the server's user: ssh-keyscan HOST >> ~/.ssh/known_hosts)"
    if "Permission denied (publickey" in said:
        return f"{last} (the server's user has no key that the host accepts)"
    if "could not read Username" in said or "Authentication failed" in said:
        return f"{last} (the address asks for a password: use ssh with a key, or a credential helper)"
    return last


async def worktree_files(top: Path) -> list[str]:
    """Every file of a checkout that git does not ignore, committed or not, relative to ``top``, in order."""
    return sorted(set(await _listed(top, "--cached", "--others")))


async def untracked_folders(top: Path) -> list[str]:
    """Folders of a checkout without any committed file, empty ones too, that git does not ignore."""
    return [name for name in await _listed(top, "--others", "--directory") if name.endswith("/")]


async def _listed(top: Path, *options: str) -> list[str]:
    said = await git("ls-files", "--exclude-standard", *options, cwd=top)
    return [_unquoted(name) for name in said.split("\n") if name]


def _unquoted(name: str) -> str:
    """A file's name out of git's quotes, which those with control characters, quotes or backslashes get."""
    if not name.startswith('"'):
        return name
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1]) or chr(int(found[1], 8)), name[1:-1])
