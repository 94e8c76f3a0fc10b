"""The plan of a Python project: which file names its dependencies, which interpreter it wants, what to run."""

from __future__ import annotations

import re
import sys
from typing import Any

import msgspec

from deferlite.builder.plan import Command, Files, InterpreterRequest, Plan, digest
from deferlite.builder.runtimes.requirements import read_requirements
from deferlite.builder.runtimes.versions import parse_wanted
from deferlite.model.environment import BuildSettings
from deferlite.model.errors import BuildError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ORDER = ("uv.lock", "requirements.txt", "pyproject.toml")
"""Where several are there, the first one decides."""

_NOT_YET = {
    "poetry.lock": "poetry",
    "pdm.lock": "pdm",
    "Pipfile.lock": "pipenv",
    "Pipfile": "pipenv",
    "pylock.toml": "pylock.toml",
    "requirements.in": "requirements.in without a compiled requirements.txt",
    "environment.yml": "conda",
    "setup.py": "setup.py",
}
_SYNC_OPTIONS = (
    *("--no-install-project", "--no-install-package", "deferlite", "--no-editable", "--no-dev"),
    *("--compile-bytecode", "--python", "{python}"),
)
_SOURCES = frozenset({"url", "git", "path", "directory", "editable", "virtual"})


def plan_python(files: Files, settings: BuildSettings) -> Plan:
    """Look at ``files`` and say how the project is installed.

    Raises:
        BuildError: the project is wrong, or deferlite cannot install its kind yet; the message has the cure.
    """
    project = _read_pyproject(files)
    interpreter, notes = _interpreter(files, settings, project)
    plan = Plan(runtime="python", kind="none", interpreter=interpreter, commands=())
    plan = _custom(plan, settings.install) if settings.install is not None else _detected(files, plan, project)
    if settings.overrides:
        notes.append("[build] overrides is not there yet: the versions are those that the project names")
    if settings.builder is not None:
        notes.append("[build] builder is not there yet: the server's own builder is used")
    return msgspec.structs.replace(plan, notes=(*plan.notes, *notes))


def _detected(files: Files, plan: Plan, project: dict[str, Any]) -> Plan:
    there = [name for name in ORDER if files.read(name) is not None]
    if "pyproject.toml" in there and "project" not in project:
        there.remove("pyproject.toml")
    if not there:
        return _without_dependencies(files, plan, project)
    kind = there[0]
    if kind == "uv.lock":
        plan = _from_uv_lock(files, plan, project)
    elif kind == "requirements.txt":
        plan = _from_requirements(files, plan)
    else:
        plan = _from_pyproject(files, plan, project)
    others = [name for name in there[1:] if not (kind == "uv.lock" and name == "pyproject.toml")]
    others += [name for name in _NOT_YET if name.endswith(".lock") and files.read(name) is not None]
    if others:
        return _note(plan, f"dependencies come from {kind}; not used: {', '.join(others)} (order: {', '.join(ORDER)})")
    return _note(plan, f"dependencies come from {kind}")


def _without_dependencies(files: Files, plan: Plan, project: dict[str, Any]) -> Plan:
    for name, tool in _NOT_YET.items():
        if files.read(name) is not None:
            raise BuildError(_not_yet(f"{name} ({tool})" if tool != name else name))
    if "poetry" in project.get("tool", {}):
        raise BuildError(_not_yet("pyproject.toml with [tool.poetry] and no [project]"))
    if files.read("package.json") is not None:
        plan = _note(plan, "package.json is not looked at: Node projects are not built yet")
    return _note(plan, f"no dependencies: there is none of {', '.join(ORDER)}")


def _not_yet(what: str) -> str:
    return (
        f"deferlite cannot install from {what} yet: export a requirements.txt, "
        'or say how in the environment file: [build] install = "…"'
    )


def _custom(plan: Plan, install: str) -> Plan:
    # Such a command may read any file of the project, so its result belongs to this one build.
    return msgspec.structs.replace(
        plan,
        kind="install",
        commands=(Command((install,), shell=True),),
        shared=False,
        notes=("[build] install replaces the detected install command",),
    )


def _from_requirements(files: Files, plan: Plan) -> Plan:
    requirements = read_requirements(files, "requirements.txt")
    return msgspec.structs.replace(
        plan,
        kind="requirements.txt",
        commands=(_pip_install("requirements.txt"),),
        inputs=requirements.inputs,
        shared=not requirements.local,
    )


def _from_pyproject(files: Files, plan: Plan, project: dict[str, Any]) -> Plan:
    """The dependencies alone: the project itself is imported from its build's own tree."""
    table, sources = project["project"], project.get("tool", {}).get("uv", {}).get("sources", {})
    dependencies = table.get("dependencies", [])
    local = any("path" in one or "workspace" in one for one in _flat(sources.values()))
    local = local or any("@ file:" in str(one) for one in dependencies)
    return msgspec.structs.replace(
        plan,
        kind="pyproject.toml",
        commands=(_pip_install("pyproject.toml"),),
        inputs={"pyproject.toml": digest(_text_of(dependencies, project))},
        # With dynamic dependencies a build back-end may read any file to know them.
        shared=not local and "dependencies" not in table.get("dynamic", []),
    )


def _text_of(dependencies: list[str], project: dict[str, Any]) -> str:
    tool = project.get("tool", {}).get("uv", {})
    return repr((dependencies, sorted((key, repr(value)) for key, value in tool.items())))


def _pip_install(name: str) -> Command:
    # The SDK is the server's own copy, installed by itself.
    options = ("--python", "{python}", "--compile-bytecode", "--excludes", "{excludes}")
    return Command(("{uv}", "pip", "install", *options, "-r", name))


def _from_uv_lock(files: Files, plan: Plan, project: dict[str, Any]) -> Plan:
    if not project:
        raise BuildError("uv.lock needs the pyproject.toml it was made from: commit it, or remove uv.lock")
    text = files.read("uv.lock") or ""
    lock = _parse("uv.lock", text)
    # uv checks a lock against the index, which takes a network: only where it looks stale at all.
    check = "--locked" if _looks_stale(lock, project) else "--frozen"
    packages = lock.get("package", [])
    return msgspec.structs.replace(
        plan,
        kind="uv.lock",
        commands=(Command(("{uv}", "sync", check, *_SYNC_OPTIONS)),),
        inputs={"uv.lock": digest(text)},
        shared=not any(_is_local(package.get("source", {})) for package in packages),
    )


def _is_local(source: dict[str, Any]) -> bool:
    return any(source.get(kind, ".") != "." for kind in ("editable", "directory", "path", "virtual"))


def _looks_stale(lock: dict[str, Any], project: dict[str, Any]) -> bool:
    table = project.get("project", {})
    name = _normal(table.get("name", ""))
    root = next((one for one in lock.get("package", []) if _normal(one.get("name", "")) == name), None)
    if root is None or "dependencies" in table.get("dynamic", []):
        return root is None
    locked = [
        (_normal(one["name"]), None if _SOURCES & one.keys() else _clauses(one.get("specifier", "")))
        for one in root.get("metadata", {}).get("requires-dist", [])
        if "extra ==" not in one.get("marker", "")
    ]
    asked = [_requirement(text) for text in table.get("dependencies", [])]
    loose = {name for name, clauses in locked if clauses is None} | {name for name, clauses in asked if clauses is None}
    return _comparable(locked, loose) != _comparable(asked, loose)


Asked = list[tuple[str, "frozenset[str] | None"]]


def _comparable(requirements: Asked, loose: set[str]) -> set[tuple[str, frozenset[str]]]:
    return {(name, frozenset() if name in loose else clauses or frozenset()) for name, clauses in requirements}


_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*(@?)\s*\(?([^;)]*)")


def _requirement(text: str) -> tuple[str, frozenset[str] | None]:
    match = _REQUIREMENT.match(text)
    if match is None:
        return text, None
    return _normal(match[1]), None if match[2] else _clauses(match[3])


def _clauses(text: str) -> frozenset[str]:
    return frozenset(re.sub(r"\s+", "", part) for part in text.split(",") if part.strip())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _interpreter(
    files: Files, settings: BuildSettings, project: dict[str, Any]
) -> tuple[InterpreterRequest | None, list[str]]:
    requires = project.get("project", {}).get("requires-python")
    pinned = next((line.strip() for line in _content_lines(files.read(".python-version"))), None)
    if settings.python is not None:
        return _request(settings.python, "[build] python"), []
    notes = []
    if pinned is not None:
        try:
            parse_wanted(pinned)
            return InterpreterRequest(pinned, ".python-version"), []
        except ValueError:
            notes.append(f".python-version says {pinned!r}, which is not a version: not used")
    if isinstance(requires, str):
        return _request(requires, "pyproject.toml, requires-python"), notes
    return None, notes


def _request(wanted: str, source: str) -> InterpreterRequest:
    try:
        parse_wanted(wanted)
    except ValueError as error:
        raise BuildError(f"{source}: {error}") from None
    return InterpreterRequest(wanted.strip(), source)


def _content_lines(text: str | None) -> list[str]:
    return [line for line in (text or "").splitlines() if line.strip() and not line.lstrip().startswith("#")]


class _Table(msgspec.Struct):
    """The shape of ``[project]`` as far as it is read here."""

    name: str = ""
    dependencies: list[str] = []
    dynamic: list[str] = []
    requires_python: str | None = msgspec.field(default=None, name="requires-python")


class _Pyproject(msgspec.Struct):
    project: _Table = msgspec.field(default_factory=_Table)
    tool: dict[str, dict[str, Any]] = {}


def _read_pyproject(files: Files) -> dict[str, Any]:
    text = files.read("pyproject.toml")
    if text is None:
        return {}
    project = _parse("pyproject.toml", text)
    try:
        msgspec.convert(project, _Pyproject)
    except msgspec.ValidationError as error:
        raise BuildError(f"pyproject.toml is not as it should be: {error}") from None
    return project


def _parse(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{name} is not TOML: {error}") from None


def _flat(values: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for value in values:
        found += value if isinstance(value, list) else [value]
    return found


def _note(plan: Plan, note: str) -> Plan:
    return msgspec.structs.replace(plan, notes=(*plan.notes, note))
