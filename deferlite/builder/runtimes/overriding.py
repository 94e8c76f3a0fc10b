"""``[build] overrides``: other versions of dependencies, installed over those that the project names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from deferlite.builder.plan import Command, Plan
from deferlite.builder.runtimes.kinds.locks import EXPORTED
from deferlite.builder.runtimes.kinds.pip import pip_install
from deferlite.builder.runtimes.kinds.project import normal, requirement
from deferlite.model.build_checks import specifier_of
from deferlite.model.errors import BuildError

FILE = "overrides.txt"
CHECK = Command(
    ("{uv}", "pip", "check", "--python", "{python}"),
    may_fail="with [build] overrides, the packages above do not fit together",
)

_INDEX = re.compile(r"(?:-i|-f|--(?:index-url|extra-index-url|find-links|no-index|trusted-host))(?:[ =]|\Z)")
_LARGEST_EXPORT = 32 * 1024 * 1024


def with_overrides(plan: Plan, asked: dict[str, str]) -> Plan:
    """Raises:
    BuildError: a name is none of a package, or a version none.
    """
    if not asked:
        return plan
    requirements = tuple(_requirement(name, version.strip()) for name, version in sorted(asked.items()))
    faults = [fault for name, version in sorted(asked.items()) for fault in _faults(name, version)]
    together = f"[build] overrides: {', '.join(requirements)} cannot be installed together"
    install = msgspec.structs.replace(
        pip_install("-r", "{given}/" + FILE), faults=(*faults, ("No solution found", together))
    )
    note = f"[build] overrides: {', '.join(requirements)}"
    return msgspec.structs.replace(
        plan, commands=(*plan.commands, install), overrides=requirements, notes=(*plan.notes, note)
    )


def _requirement(name: str, version: str) -> str:
    found = requirement(name)
    if found is None or found.url or found.marker or found.specifier:
        raise BuildError(f"[build] overrides {name!r} is not the name of a package")
    wanted = specifier_of(version)
    if wanted is None:
        raise BuildError(f'[build] overrides {name} = "{version}" is not a version: write "2.3.0" or ">=2,<3"')
    return f"{name}{wanted}"


def _faults(name: str, version: str) -> list[tuple[str, str]]:
    """How uv says that there is none; a name that another one begins with is told apart by what follows it."""
    bare = normal(name.partition("[")[0])
    cure = f'[build] overrides {name} = "{version}": there is no such version, or none for this Python'
    said = [f"there is no version of {bare}{operator}" for operator in "=<>!~"]
    said += [f"there are no versions of {bare} ", f"{bare} was not found in", f"only the following versions of {bare}"]
    said += [f"only {bare}<", f"only {bare}>", f"only {bare}=", f"Because {bare}=="]
    return [(words, cure) for words in said]


def requirements_text(plan: Plan, taken: Path) -> str:
    """The file to install from: where the project's packages come from, and the overrides. Blocks."""
    indexes = [*plan.indexes]
    indexes += [line for line in _exported(taken / EXPORTED).splitlines() if _INDEX.match(line)]
    return "\n".join((*indexes, *plan.overrides)) + "\n"


def _exported(path: Path) -> str:
    """Commands wrote it: no link is followed, and it has a size."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(_LARGEST_EXPORT).decode(errors="replace")
    except OSError:
        return ""
