"""What a commit says of its submodules, believed as far as is safe: whoever may commit writes it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import msgspec

from deferlite.builder.sources.tree import Tree
from deferlite.model.environment import is_remote
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox.git import unquoted

FILE = ".gitmodules"
TRANSPORTS = "git:http:https:ssh"
"""Not file: a commit must not name a folder of this machine, whose content its author may not be allowed to read."""

_ADDRESS = re.compile(r"(?P<place>[a-z]+://[^/]+/*|[^/:]+:/*)(?P<path>.*)", re.DOTALL)


class Submodule(msgspec.Struct, frozen=True):
    name: str
    path: str
    url: str
    commit: str


async def submodules_of(tree: Tree) -> list[Submodule]:
    """The submodules of a commit, in the order of their paths.

    Raises:
        BuildError: a name or path of one leads elsewhere.
        WorldError: git failed.
    """
    listed = await _entries(tree, [FILE])
    if FILE not in listed:
        return []
    if not listed[FILE][0].startswith("100"):
        raise BuildError(f"{FILE} is not a plain file: make it one")
    try:
        said = await tree.git("config", "--blob", f"{tree.commit}:{FILE}", "--list", "-z")
    except WorldError as error:
        raise BuildError(f"{FILE} of commit {tree.commit[:12]} cannot be read: {error}") from None
    sections = _sections(said)
    links = await _entries(tree, [section["path"] for section in sections.values() if section.get("path")])
    found = [_submodule(name, section, links) for name, section in sections.items() if section.get("update") != "none"]
    return sorted((one for one in found if one is not None), key=lambda one: one.path)


def _sections(said: str) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    for line in said.split("\0"):
        key, _, value = line.partition("\n")
        first, _, rest = key.partition(".")
        name, dot, last = rest.rpartition(".")
        if first == "submodule" and dot:
            sections.setdefault(name, {})[last] = value
    return sections


async def _entries(tree: Tree, paths: list[str]) -> dict[str, tuple[str, str]]:
    """Mode and object of those of ``paths`` that the commit has."""
    for path in paths:
        _check("path", path)
    if not paths:
        return {}
    said = await tree.git("ls-tree", "--full-tree", tree.commit, "--", *paths)
    entries = {}
    for line in filter(None, said.split("\n")):
        about, _, path = line.partition("\t")
        mode, _, commit = about.split(" ")
        entries[unquoted(path)] = mode, commit
    return entries


def _submodule(name: str, section: dict[str, str], links: dict[str, tuple[str, str]]) -> Submodule | None:
    """None: the commit has no submodule there."""
    path, url = section.get("path", "").rstrip("/"), section.get("url", "")
    _check("name", name)
    mode, commit = links.get(path, ("", ""))
    if mode != "160000":
        return None
    if not url or url.startswith("-") or not url.isprintable():
        raise BuildError(f"submodule {name}: its url in {FILE} is not an address: mend it")
    return Submodule(name, path, url, commit)


def _check(what: str, text: str) -> None:
    parts = PurePosixPath(text).parts
    if not parts or text.startswith("/") or ".." in parts or any(part.casefold() == ".git" for part in parts):
        raise BuildError(f"submodule {text!r} in {FILE}: its {what} leads out of the repository")
    if not text.isprintable():
        raise BuildError(f"submodule {text!r} in {FILE}: its {what} holds signs that nobody can read: rename it")


def resolve_url(base: str, url: str) -> str:
    """``url`` of a submodule seen from its repository's address ``base``; one that begins with ./ or ../ is relative.

    Raises:
        BuildError: it climbs above the host.
    """
    if not url.startswith(("./", "../")):
        return url
    found = _ADDRESS.fullmatch(base)
    place, path = (found["place"], found["path"]) if found else ("/", base)
    parts = [part for part in path.split("/") if part]
    for part in url.split("/"):
        if part == "..":
            if not parts:
                raise BuildError(f"the url {url} of a submodule leads above {place}: mend {FILE}")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return place + "/".join(parts)


def is_allowed(url: str) -> bool:
    """Whether a commit may name it: an address of another machine."""
    scheme, mark, _ = url.partition("://")
    return is_remote(url) and "::" not in url.partition("/")[0] and (not mark or scheme in TRANSPORTS.split(":"))
