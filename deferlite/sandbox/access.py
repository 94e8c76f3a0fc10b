"""How a remote repository is reached: keys, passwords, and what its refusals mean.

A password is handed to git by a credential helper that reads it from variables: so it is on no command line, in no
file, and goes to the host it is for alone, wherever that host redirects to.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from deferlite.model.environment import GitSettings
from deferlite.model.errors import WorldError
from deferlite.sandbox.files import open_plain, secret_text
from deferlite.sandbox.git import SAID, SSH, RepositoryError, environment, git, plain, without_secrets

_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$DEFERLITE_GIT_USERNAME" "$DEFERLITE_GIT_PASSWORD"; }; f'
)
_STALLED = (("http.lowSpeedLimit", "1"), ("http.lowSpeedTime", "60"))
"""Bytes a second, seconds: git's servers send a sign of life every five."""


class Access(msgspec.Struct, frozen=True):
    """``[git]`` with its secret read."""

    key: str | None = None
    known_hosts: str | None = None
    username: str = "git"
    token: str | None = None

    def __repr__(self) -> str:
        return f"Access(key={self.key!r}, username={self.username!r}, token={'•••' if self.token else None})"


class Address(msgspec.Struct, frozen=True):
    """Where a repository is, without the password, and whom to be there."""

    url: str
    access: Access
    shown: str
    """For people."""

    @property
    def place(self) -> tuple[str, str]:
        """Scheme and host with port: what a password is for."""
        parts = urlsplit(self.url)
        return parts.scheme, parts.netloc.rpartition("@")[2]


def access_of(settings: GitSettings) -> Access | None:
    """``[git]`` with its files looked at; None: it says nothing about access. Blocks.

    Raises:
        RepositoryError: a file is not there, may not be read, or may be read by others.
    """
    if settings.key is None and settings.known_hosts is None and settings.token is None:
        return None
    if settings.key is not None:
        _check_file("key", settings.key)
        _check_private(settings.key)
    if settings.known_hosts is not None:
        _check_file("known_hosts", settings.known_hosts)
    token = None if settings.token is None else _token(settings.token)
    return Access(settings.key, settings.known_hosts, settings.username, token)


def _check_file(name: str, path: str) -> None:
    if "${" in path:
        raise RepositoryError(f"[git] {name} {path}: ssh takes ${{ for a variable: rename the file")
    try:
        open_plain(path, follow=True).close()
    except OSError as error:
        raise RepositoryError(f"[git] {name}: cannot read {path}: {error.strerror}") from None


def _check_private(path: str) -> None:
    # ssh ignores such a key of its own user, and says so in a way that is easily missed.
    status = Path(path).stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        raise RepositoryError(f"[git] key: {path} may be read by others, so ssh does not take it: chmod 600 {path}")


def _token(given: str | dict[str, str]) -> str:
    try:
        text = secret_text(given).strip()
    except ValueError as error:
        raise RepositoryError(f"[git] token: {error}") from None
    if not text or not text.isprintable():
        raise RepositoryError(f"[git] token {'holds more than one line' if text else 'is empty'}")
    return text


def address_of(url: str, access: Access | None) -> Address:
    """``url`` with its user and password taken out; they win over ``access``."""
    access = access or Access()
    shown = without_secrets(url)
    scheme, mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, sign, host = authority.rpartition("@")
    if not mark or not sign or scheme.lower() not in ("http", "https"):
        return Address(url, access, shown)
    name, colon, password = user.partition(":")
    access = msgspec.structs.replace(access, username=unquote(name), token=unquote(password) if colon else access.token)
    return Address(f"{scheme}://{host}{slash}{path}", access, shown)


def variables_of(address: Address, *, protocols: str | None = None) -> dict[str, str]:
    """The complete variables of a git command that goes to ``address``; ``protocols``: those allowed, as git has it."""
    access = address.access
    settings = list(_STALLED)
    secrets = {}
    scheme, host = address.place
    if scheme in ("http", "https"):
        place = f"credential.{scheme}://{host}"
        if access.token is not None:
            settings += [("credential.helper", ""), (f"{place}.helper", ""), (f"{place}.helper", _HELPER)]
            secrets = {"DEFERLITE_GIT_USERNAME": access.username, "DEFERLITE_GIT_PASSWORD": access.token}
        elif access.username != Access().username:
            settings.append((f"{place}.username", access.username))
    variables = environment(remote=True, settings=settings) | secrets | {"GIT_SSH_COMMAND": shlex.join(_ssh(access))}
    return variables | ({"GIT_ALLOW_PROTOCOL": protocols} if protocols else {})


def _ssh(access: Access) -> list[str]:
    command = list(SSH)
    if access.key is not None:
        command += ["-o", f"IdentityFile={_quoted(access.key)}", "-o", "IdentitiesOnly=yes"]
    if access.known_hosts is not None:
        command += ["-o", f"UserKnownHostsFile={_quoted(access.known_hosts)}"]
    return command


def _quoted(path: str) -> str:
    """As ssh reads a file's name in its configuration."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


async def ask(address: Address, *args: str) -> str:
    """What a git command that goes to ``address`` prints; its url is to be among ``args``.

    Raises:
        WorldError: it does not answer, or refuses; the message has the cure.
    """
    try:
        return await git(*args, variables=variables_of(address))
    except WorldError as error:
        raise WorldError(explain(str(error), address)) from None


def explain(said: str, address: Address) -> str:
    """What git ``said`` when a remote repository could not be read, as a sentence with the cure."""
    lines = SAID.sub("", without_secrets(said)).splitlines()
    told = " ".join(plain(line.strip()) for line in lines if line.strip())
    if address.access.token:
        told = told.replace(address.access.token, "•••")
    cure = next((cure for pattern, cure in _CURES if re.search(pattern, said)), None)
    shown = f"repository {address.shown} does not answer: {told}"
    return f"{shown} ({cure.format(**_words(address))})" if cure else shown


def _words(address: Address) -> dict[str, str]:
    """What the cures of ssh name, as a shell takes it."""
    place = address.place[1] or address.url.partition(":")[0].rpartition("@")[2]
    host, _, port = place.rpartition(":") if re.search(r":\d+\Z", place) else (place, "", "")
    elsewhere = port not in ("", "22")
    known_hosts = address.access.known_hosts
    return {
        "known": shlex.quote(f"[{host}]:{port}") if elsewhere else host,
        "scanned": f"-p {port} {host}" if elsewhere else host,
        "known_hosts": shlex.quote(known_hosts) if known_hosts else "~/.ssh/known_hosts",
    }


_CURES = (
    (
        "IDENTIFICATION HAS CHANGED",
        "its host key is not the one in {known_hosts}: if its owner says that it was changed, "
        "take the old one out with ssh-keygen -R {known} -f {known_hosts} and put in the new one",
    ),
    (
        "Host key verification failed",
        "the host is not in {known_hosts}: put its key there with ssh-keyscan {scanned} >> {known_hosts}, "
        "and compare it with the one that its owner publishes",
    ),
    (
        r"Permission denied \(",
        "the host takes no key of the server's user: write [git] key, a file without a passphrase, "
        "and add its public half to the repository's deploy keys",
    ),
    (
        "Authentication failed|could not read (Username|Password)|returned error: 401",
        "it asks for a password, or takes none of those it was given: write [git] token and username, "
        "or use ssh with [git] key",
    ),
    ("returned error: 403", "the user of [git] may not read this repository: give it, or its token, the right to"),
    (
        "returned error: 404|repository '.*' not found|Repository not found|does not appear to be a git repository"
        "|not valid: is this a git repository|access denied or repository not exported",
        "mend the address; a private repository answers so to whom it does not know: see [git]",
    ),
    (
        "Could not resolve host|unable to look up|Name or service not known|Temporary failure in name",
        "no such host, or the name service does not answer: mend the address, or the machine's network",
    ),
    ("Connection refused|No route to host|Network is unreachable", "nothing listens there: is the host up?"),
    (
        "took longer than|timed out|Operation too slow|said nothing",
        "the host takes connections but does not answer in time: it is tried again",
    ),
    ("certificate", "the machine does not trust the host's certificate: add its authority to the machine's own"),
    ("dubious ownership", "the folder belongs to another user: write its path, without file://"),
)
