"""uv.lock: of a project, or of the workspace above that the project is a member of."""

from __future__ import annotations

import posixpath
import re
from typing import Any

import msgspec

from deferlite.builder.plan import Command, Plan, digest
from deferlite.builder.runtimes.kinds.project import Project, Table, normal, noted, parse_toml, requirement, shaped
from deferlite.model.errors import BuildError

_SYNC_OPTIONS = (
    *("--no-install-package", "deferlite", "--no-editable", "--no-dev"),
    *("--compile-bytecode", "--python", "{python}"),
)
_STALE = (("needs to be updated", "uv.lock does not fit pyproject.toml: run `uv lock` and commit uv.lock"),)
_LOCAL = ("editable", "directory", "path", "virtual")
_SOURCES = frozenset({"url", "git", "path", "directory", "editable", "virtual"})


class _Need(msgspec.Struct):
    name: str


class _Asked(msgspec.Struct):
    name: str
    specifier: str = ""
    marker: str = ""


class _LockedMetadata(msgspec.Struct):
    requires_dist: list[_Asked] = msgspec.field(default=[], name="requires-dist")


class _Locked(msgspec.Struct):
    name: str
    source: dict[str, Any] = {}
    dependencies: list[_Need] = []
    optional: dict[str, list[_Need]] = msgspec.field(default={}, name="optional-dependencies")
    dev: dict[str, list[_Need]] = msgspec.field(default={}, name="dev-dependencies")
    metadata: _LockedMetadata = msgspec.field(default_factory=_LockedMetadata)


class _Lock(msgspec.Struct):
    """The shape of uv.lock as far as it is read here."""

    package: list[_Locked] = []
    requires_python: str = msgspec.field(default="", name="requires-python")


def _read(path: str, text: str) -> Table:
    lock = parse_toml(path, text)
    shaped(path, lock, _Lock)
    return lock


def locate(project: Project) -> str | None:
    """Where the lock is: beside the project, or above at the root of its workspace, inside the repository only."""
    if project.has("uv.lock"):
        return "uv.lock"
    name, folder = normal(project.table.get("name", "")), ".."
    while name and project.files.is_folder(folder):
        path = posixpath.join(folder, "uv.lock")
        text = project.files.read(path)
        if text is not None:
            return path if _own(_read(path, text).get("package", []), name) else None
        folder = posixpath.join(folder, "..")
    return None


def _own(locked: list[Table], name: str) -> Table | None:
    """The project's own entry."""
    return next((one for one in locked if normal(one["name"]) == name and _is_local(one)), None)


def _is_local(package: Table) -> bool:
    return any(kind in package.get("source", {}) for kind in _LOCAL)


def plan_uv_lock(project: Project, plan: Plan) -> Plan:
    if not project.pyproject:
        raise BuildError("uv.lock needs the pyproject.toml it was made from: commit it, or remove uv.lock")
    path = locate(project) or "uv.lock"
    text = project.files.read(path) or ""
    lock = _read(path, text)
    locked = lock.get("package", [])
    name = normal(project.table.get("name", ""))
    own = _own(locked, name)
    # uv checks a lock against the index, which takes a network: only where it looks stale at all.
    check = "--locked" if own is None or _looks_stale(own, lock, project) else "--frozen"
    whose = ("--all-packages",) if not name else ("--package", project.table["name"], "--no-install-project")
    sync = Command(("{uv}", "sync", check, *whose, *_SYNC_OPTIONS), faults=_STALE)
    plan = msgspec.structs.replace(
        plan,
        commands=(sync,),
        inputs={"uv.lock": digest(text), "[tool.uv]": digest(repr(project.tool("uv")))},
        shared=not any(_is_local(one) for one in _needed(locked, name) if one is not own),
    )
    return noted(plan, f"the lock of the workspace: {path}") if path != "uv.lock" else plan


def _needed(locked: list[Table], name: str) -> list[Table]:
    """The packages that are installed for ``name``; all of them where it is not in the lock."""
    waiting, seen = [name], {name}
    found: list[Table] = []
    while waiting:
        current = waiting.pop()
        entries = [one for one in locked if normal(one["name"]) == current]
        if current == name and not entries:
            return locked
        found += entries
        for other in {normal(need) for one in entries for need in _needs(one)} - seen:
            seen.add(other)
            waiting.append(other)
    return found


def _needs(package: Table) -> list[str]:
    lists = [package.get("dependencies", []), *_values(package, "optional-dependencies")]
    # The group dev is never installed; others may be default groups.
    lists += [needs for group, needs in package.get("dev-dependencies", {}).items() if group != "dev"]
    return [need["name"] for needs in lists for need in needs]


def _values(package: Table, key: str) -> list[list[Table]]:
    return list(package.get(key, {}).values())


def _looks_stale(own: Table, lock: Table, project: Project) -> bool:
    if "dependencies" in project.dynamic:
        return False
    requires = project.table.get("requires-python")
    if requires is not None and lock.get("manifest") is None:
        wanted = lock.get("requires-python", "")
        if _clauses(requires) != _clauses(wanted):
            return True
    locked = [
        (normal(one["name"]), None if _SOURCES & one.keys() else _clauses(one.get("specifier", "")))
        for one in own.get("metadata", {}).get("requires-dist", [])
        if "extra ==" not in one.get("marker", "")
    ]
    asked = [_requirement(text) for text in project.table.get("dependencies", [])]
    loose = {name for name, clauses in locked if clauses is None} | {name for name, clauses in asked if clauses is None}
    return _comparable(locked, loose) != _comparable(asked, loose)


Asked = list[tuple[str, "frozenset[str] | None"]]


def _comparable(requirements: Asked, loose: set[str]) -> set[tuple[str, frozenset[str]]]:
    return {(name, frozenset() if name in loose else clauses or frozenset()) for name, clauses in requirements}


def _requirement(text: str) -> tuple[str, frozenset[str] | None]:
    found = requirement(text)
    if found is None:
        return text, None
    return normal(found.name), None if found.url else _clauses(str(found.specifier))


def _clauses(text: str) -> frozenset[str]:
    return frozenset(re.sub(r"\s+", "", part) for part in text.split(",") if part.strip())
