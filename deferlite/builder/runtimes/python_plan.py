"""The plan of a Python project: which file names its dependencies, which interpreter it wants, what to run."""

from __future__ import annotations

import msgspec

from deferlite.builder.plan import Command, Files, Plan
from deferlite.builder.runtimes.kinds import KINDS, UNKNOWN
from deferlite.builder.runtimes.kinds.own import import_roots, own_project
from deferlite.builder.runtimes.kinds.project import Project, noted
from deferlite.builder.runtimes.kinds.python_version import interpreter_request
from deferlite.builder.runtimes.overriding import with_overrides
from deferlite.model.environment import BuildSettings
from deferlite.model.errors import BuildError

ORDER = ", ".join(kind.name for kind in KINDS)


def plan_python(files: Files, settings: BuildSettings) -> Plan:
    """Look at ``files`` and say how the project is installed.

    Raises:
        BuildError: the project is wrong, or deferlite cannot install its kind; the message has the cure.
    """
    project = Project(files)
    interpreter, notes = interpreter_request(project, settings.python)
    plan = Plan(runtime="python", kind="none", interpreter=interpreter, commands=())
    plan = _custom(plan, settings.install) if settings.install is not None else _detected(project, plan)
    plan = msgspec.structs.replace(plan, import_roots=import_roots(project), own=own_project(project))
    return noted(with_overrides(plan, settings.overrides), *notes)


def _detected(project: Project, plan: Plan) -> Plan:
    there = [kind for kind in KINDS if kind.is_there(project)]
    unknown = [name for name in UNKNOWN if project.has(name)]
    if not there:
        return _without_dependencies(project, plan, unknown)
    first = there[0]
    others = [kind.name for kind in there[1:] if kind.name not in first.parts] + unknown
    note = f"dependencies come from {first.name}"
    if others:
        note += f"; not used: {', '.join(others)} (order: {ORDER})"
    return first.plan(project, noted(msgspec.structs.replace(plan, kind=first.name), note))


def _without_dependencies(project: Project, plan: Plan, unknown: list[str]) -> Plan:
    if unknown:
        raise BuildError(
            f"deferlite cannot install from {unknown[0]} ({UNKNOWN[unknown[0]]}): export a requirements.txt, "
            'or say how in the environment file: [build] install = "…"'
        )
    if project.has("package.json"):
        plan = noted(plan, "package.json is not looked at: Node projects are not built yet")
    return noted(plan, "no dependencies are named")


def _custom(plan: Plan, install: str) -> Plan:
    # Such a command may read any file of the project, so its result belongs to this one build.
    return msgspec.structs.replace(
        plan,
        kind="install",
        commands=(Command((install,), shell=True),),
        shared=False,
        notes=("[build] install replaces the detected install command",),
    )
