"""Which interpreter a project gets: what [build] says, else the first pin that says something, else its own range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from deferlite.builder.plan import InterpreterRequest
from deferlite.builder.runtimes.kinds.pip import script_metadata, scripts
from deferlite.builder.runtimes.kinds.project import Project, parse_toml, shaped
from deferlite.builder.runtimes.versions import as_clauses, can_fit, from_poetry, is_within, minor_of, parse_wanted
from deferlite.model.errors import BuildError

Found = tuple[str, str]
"""What is asked for, and which file says so."""


def interpreter_request(project: Project, asked: str | None) -> tuple[InterpreterRequest | None, list[str]]:
    """The request and notes for the log. ``asked`` is ``[build] python``.

    Raises:
        BuildError: a version that a project has to keep to is none; the message names its place.
    """
    if asked is not None:
        exact = asked.strip() if asked.startswith("/") else _checked(asked, "[build] python")
        return InterpreterRequest(exact, "[build] python"), []
    required = _required(project)
    notes: list[str] = []
    for name, read in _PINS:
        wanted = read(project)
        if wanted is None:
            continue
        try:
            parse_wanted(wanted)
        except ValueError:
            notes.append(f"{name} says {wanted!r}, which is not a version: not used")
            continue
        return _pinned(wanted, name, required), notes
    return (InterpreterRequest(*required) if required else None), notes


def _pinned(wanted: str, name: str, required: Found | None) -> InterpreterRequest:
    """What the pin asks for, as far as the project's range allows it.

    Where a patch version is pinned and is not there, another of the same minor version will do: servers seldom have
    the very one, and all of a minor version run the same code.
    """
    minor = minor_of(wanted)
    otherwise = as_clauses(minor) if minor else None
    if required is None or is_within(wanted, required[0]):
        return InterpreterRequest(wanted, name, f"{otherwise},{required[0]}" if otherwise and required else otherwise)
    joined = f"{as_clauses(wanted)},{required[0]}"
    if not can_fit(joined):
        raise BuildError(
            f"{name} asks for Python {wanted}, and {required[1]} for {required[0]}: no version is both, so change one"
        )
    return InterpreterRequest(joined, f"{name} with {required[1]}")


def _checked(wanted: str, source: str) -> str:
    try:
        parse_wanted(wanted)
    except ValueError as error:
        raise BuildError(f"{source}: {error}") from None
    return wanted.strip()


def _first_line(project: Project, name: str) -> str | None:
    lines = (line.strip() for line in (project.files.read(name) or "").splitlines())
    return next((line for line in lines if line and not line.startswith("#")), None)


def _python_version(project: Project) -> str | None:
    return _first_line(project, ".python-version")


def _runtime_txt(project: Project) -> str | None:
    return _first_line(project, "runtime.txt")


class _Requires(msgspec.Struct):
    python_version: str | None = None
    python_full_version: str | None = None


class _Pipfile(msgspec.Struct):
    requires: _Requires = msgspec.field(default_factory=_Requires)


def _pipfile(project: Project) -> str | None:
    text = project.files.read("Pipfile")
    requires = shaped("Pipfile", parse_toml("Pipfile", text or ""), _Pipfile).requires
    found = requires.python_full_version or requires.python_version
    return found if found != "*" else None


_PINS: tuple[tuple[str, Callable[[Project], str | None]], ...] = (
    (".python-version", _python_version),
    ("runtime.txt", _runtime_txt),
    ("Pipfile", _pipfile),
)


def _required(project: Project) -> Found | None:
    """A range that is never violated."""
    ranges: tuple[tuple[Any, str], ...] = (
        (project.table.get("requires-python"), "pyproject.toml, requires-python"),
        _poetry(project),
        (project.tool("flit", "metadata").get("requires-python"), "pyproject.toml, [tool.flit.metadata]"),
        (project.setup_cfg.get("options", {}).get("python_requires"), "setup.cfg, python_requires"),
        (project.setup.text("python_requires"), "setup.py, python_requires"),
    )
    for wanted, source in ranges:
        if isinstance(wanted, str) and wanted.strip():
            return as_clauses(_checked(wanted, source)), source
    return None if project.pyproject else _of_scripts(project)


def _poetry(project: Project) -> tuple[Any, str]:
    wanted, source = project.tool("poetry", "dependencies").get("python"), "pyproject.toml, [tool.poetry]"
    if not isinstance(wanted, str) or wanted.strip() == "*" or "|" in wanted:
        return None, source
    return from_poetry(wanted), source


def _of_scripts(project: Project) -> Found | None:
    asked = {name: script_metadata(name, text).requires_python for name, text in scripts(project).items()}
    found = {name: text for name, text in asked.items() if text}
    if not found:
        return None
    source = ", ".join(f"{name}, requires-python" for name in found)
    return ",".join(as_clauses(_checked(text, source)) for text in found.values()), source
