"""A Python project as the kinds look at it: its files, and those that many of them read, read once."""

from __future__ import annotations

import configparser
import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from deferlite.builder.plan import Files, Plan
from deferlite.builder.runtimes.kinds.setup_py import SetupCall, read_setup_call
from deferlite.model.errors import BuildError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = dict[str, Any]
T = TypeVar("T")

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


class _ProjectTable(msgspec.Struct):
    """The shape of ``[project]`` as far as it is read here."""

    name: str = ""
    version: str = ""
    dependencies: list[str] = []
    dynamic: list[str] = []
    requires_python: str | None = msgspec.field(default=None, name="requires-python")
    scripts: dict[str, str] = {}
    gui_scripts: dict[str, str] = msgspec.field(default={}, name="gui-scripts")
    entry_points: dict[str, dict[str, str]] = msgspec.field(default={}, name="entry-points")


class _PoetryTable(msgspec.Struct):
    name: str = ""
    version: str = ""
    dependencies: dict[str, Any] = {}
    packages: list[dict[str, Any]] = []
    scripts: dict[str, Any] = {}
    plugins: dict[str, dict[str, str]] = {}


class _FlitTable(msgspec.Struct):
    metadata: dict[str, Any] = {}
    scripts: dict[str, str] = {}
    entrypoints: dict[str, dict[str, str]] = {}


class _Tools(msgspec.Struct):
    poetry: _PoetryTable = msgspec.field(default_factory=_PoetryTable)
    setuptools: dict[str, Any] = {}
    uv: dict[str, Any] = {}
    pdm: dict[str, Any] = {}
    hatch: dict[str, Any] = {}
    flit: _FlitTable = msgspec.field(default_factory=_FlitTable)


class _BuildSystem(msgspec.Struct):
    requires: list[str] = []
    backend: str = msgspec.field(default="", name="build-backend")


class _Pyproject(msgspec.Struct):
    project: _ProjectTable = msgspec.field(default_factory=_ProjectTable)
    tool: _Tools = msgspec.field(default_factory=_Tools)
    build_system: _BuildSystem = msgspec.field(default_factory=_BuildSystem, name="build-system")


class Project:
    """What is not there is empty. Everything may raise BuildError naming the file that is wrong."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def has(self, name: str) -> bool:
        return self.files.read(name) is not None

    @cached_property
    def pyproject(self) -> Table:
        text = self.files.read("pyproject.toml")
        if text is None:
            return {}
        read = parse_toml("pyproject.toml", text)
        shaped("pyproject.toml", read, _Pyproject)
        return read

    @property
    def table(self) -> Table:
        """``[project]``."""
        found: Table = self.pyproject.get("project", {})
        return found

    def tool(self, *names: str) -> Table:
        """``[tool.A.B]``; empty where there is no such table."""
        found: Any = self.pyproject.get("tool", {})
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def dynamic(self) -> list[str]:
        found: list[str] = self.table.get("dynamic", [])
        return found

    @cached_property
    def setup_cfg(self) -> dict[str, dict[str, str]]:
        text = self.files.read("setup.cfg")
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        try:
            parser.read_string(text or "")
        except configparser.Error as error:
            raise BuildError(f"setup.cfg cannot be read: {first_line(error)}") from None
        return {section: dict(parser.items(section)) for section in parser.sections()}

    @cached_property
    def setup(self) -> SetupCall:
        """What setup.py tells setuptools, as far as it is written out there."""
        return read_setup_call(self.files.read("setup.py"))


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def parse_toml(name: str, text: str) -> Table:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BuildError(f"{name} is not TOML: {error}") from None


def parse_json(name: str, text: str) -> Table:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BuildError(f"{name} is not JSON: {error}") from None
    if not isinstance(read, dict):
        raise BuildError(f"{name} is not as it should be: it holds no object")
    return read


def shaped(name: str, read: Any, type: type[T]) -> T:
    """What was read as what it should be.

    Raises:
        BuildError: it is not; the message has the place.
    """
    try:
        return msgspec.convert(read, type)
    except msgspec.ValidationError as error:
        raise BuildError(f"{name} is not as it should be: {error}") from None


def packages(name: str, lock: Table, key: str = "package") -> list[Table]:
    """The packages of a lock file.

    Raises:
        BuildError: they are not a list of tables with a name each.
    """
    found = lock.get(key, [])
    if isinstance(found, list) and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in found):
        return found
    raise BuildError(f"{name} is not as it should be: [[{key}]] has to be tables with a name: make it anew")


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return canonicalize_name(name)


def name_of(requirement: str) -> str | None:
    """The distribution that a requirement asks for, normalised; None where it is an address or a path."""
    match = _NAME.match(requirement)
    return normal(match[1]) if match and "/" not in requirement.split("@")[0].split(";")[0] else None


def requirement(text: str) -> Requirement | None:
    """None for what is none, such as a path."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def pin_of(text: str) -> tuple[str, str]:
    """The name in a list of requirements, and the version that it is pinned to, or nothing."""
    found = requirement(text)
    versions = [one.version for one in found.specifier if one.operator in ("==", "===")] if found else []
    return (found.name if found else name_of(text) or ""), (versions[0] if len(versions) == 1 else "")


def unmet(requirements: Iterable[str], pins: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What of the requirements the pins do not fulfil, in words; one that a marker may leave out is not looked at.

    The SDK is not among them, as the server brings it.
    """
    pinned: dict[str, list[str]] = {}
    for name, version in pins:
        pinned.setdefault(normal(name), []).append(version)
    asked = [one for text in requirements if (one := requirement(text)) is not None and one.marker is None]
    for one in asked:
        versions = pinned.get(normal(one.name))
        if versions is None and normal(one.name) != "deferlite":
            yield f"lacks {one.name}"
        elif versions and not any(_fits(one, version) for version in versions):
            yield f"has {one.name} {versions[0]} and not {one.name}{one.specifier}"


def _fits(asked: Requirement, version: str) -> bool:
    try:
        return not version or asked.url is not None or asked.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return True


def noted(plan: Plan, *notes: str) -> Plan:
    return msgspec.structs.replace(plan, notes=(*plan.notes, *notes))
