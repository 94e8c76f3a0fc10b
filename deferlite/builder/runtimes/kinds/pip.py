"""Kinds that are lists of requirements: requirements.txt and its relatives, and scripts that carry their own."""

from __future__ import annotations

import posixpath
import re

import msgspec

from deferlite.builder.plan import Command, Plan, digest
from deferlite.builder.runtimes.kinds.project import Project, noted, parse_toml, pin_of, shaped, unmet
from deferlite.builder.runtimes.requirements import read_requirements
from deferlite.model.errors import BuildError

FOLDER = ("requirements/production.txt", "requirements/prod.txt", "requirements/base.txt")
"""In a folder of lists, the first of these is what a deployment installs."""

_COMMENT = re.compile(r"#(?: .*)?\Z")


def pip_install(*options: str) -> Command:
    # The SDK is the server's own copy, installed by itself.
    own = ("--python", "{python}", "--compile-bytecode", "--excludes", "{given}/excludes.txt")
    return Command(("{uv}", "pip", "install", *own, *options))


def plan_requirements(project: Project, plan: Plan) -> Plan:
    plan = _from_list(project, plan, "requirements.txt")
    if project.has("requirements.in"):
        _check_compiled(project, plan)
    return plan


def _check_compiled(project: Project, plan: Plan) -> None:
    asked = read_requirements(project.files, "requirements.in")
    there = read_requirements(project.files, "requirements.txt")
    faults = list(unmet(asked.requirements, map(pin_of, there.requirements)))
    if faults:
        raise BuildError(
            f"requirements.txt {', '.join(faults)}, which requirements.in asks for: "
            "run `uv pip compile requirements.in -o requirements.txt` and commit requirements.txt"
        )


def folder_list(project: Project) -> str | None:
    return next((name for name in FOLDER if project.has(name)), None)


def plan_folder(project: Project, plan: Plan) -> Plan:
    name = folder_list(project) or FOLDER[-1]
    return noted(_from_list(project, plan, name), f"requirements/ is installed from {name}")


def plan_unpinned(project: Project, plan: Plan) -> Plan:
    plan = _from_list(project, plan, "requirements.in")
    return noted(
        plan,
        "requirements.in is not compiled, so each new install takes the newest versions: "
        "run `uv pip compile requirements.in -o requirements.txt` and commit requirements.txt to pin them",
    )


def _from_list(project: Project, plan: Plan, name: str) -> Plan:
    found = read_requirements(project.files, name)
    return msgspec.structs.replace(
        plan,
        commands=(pip_install("-r", name),),
        inputs=found.inputs,
        indexes=found.indexes,
        shared=not found.local,
    )


def scripts(project: Project) -> dict[str, str]:
    """Scripts beside each other in the project's folder that use deferlite, and their inline metadata."""
    found = {}
    for name in project.files.names("."):
        text = (project.files.read(name) or "") if name.endswith(".py") else ""
        block = _script_block(text) if "deferlite" in text else None
        if block is not None:
            found[name] = block
    return found


def _script_block(text: str) -> str | None:
    """The metadata of the first whole block; each line is looked at once."""
    block: list[str] | None = None
    for line in text.splitlines():
        if block is not None and line.rstrip() == "# ///":
            return "\n".join(block)
        if block is not None and _COMMENT.match(line):
            block.append(line[1:].removeprefix(" "))
        else:
            block = [] if line.rstrip() == "# /// script" else None
    return None


class _Metadata(msgspec.Struct):
    dependencies: list[str] = []
    requires_python: str | None = msgspec.field(default=None, name="requires-python")
    tool: dict[str, dict[str, object]] = {}


def script_metadata(name: str, text: str) -> _Metadata:
    place = f"{name}, its `# /// script` block,"
    return shaped(place, parse_toml(place, text), _Metadata)


def plan_scripts(project: Project, plan: Plan) -> Plan:
    found = scripts(project)
    read = {name: script_metadata(name, text) for name, text in found.items()}
    local = any("path" in repr(one.tool) or _is_local(one.dependencies) for one in read.values())
    options = [word for name in found for word in ("-r", posixpath.join(".", name))]
    return msgspec.structs.replace(
        plan,
        commands=(pip_install(*options),),
        inputs={name: digest(text) for name, text in found.items()},
        shared=not local,
    )


def _is_local(requirements: list[str]) -> bool:
    return any("@ file:" in one or "@file:" in one for one in requirements)
