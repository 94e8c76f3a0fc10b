"""Kinds without a lock: pyproject.toml, setup.py and setup.cfg name what the project needs.

The dependencies alone are installed: the project itself is imported from its build's own tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from deferlite.builder.plan import Plan, digest
from deferlite.builder.runtimes.kinds.pip import pip_install
from deferlite.builder.runtimes.kinds.project import Project, Table, noted
from deferlite.builder.runtimes.requirements import read_requirements
from deferlite.model.errors import BuildError

_GIVEN = "{given}/requirements.txt"


def names_dependencies(project: Project) -> bool:
    """Whether pyproject.toml is of a project, and not for tools alone."""
    tools = project.tool("poetry", "dependencies"), project.tool("flit", "metadata")
    return "project" in project.pyproject or any(tools)


def plan_pyproject(project: Project, plan: Plan) -> Plan:
    plan = msgspec.structs.replace(plan, commands=(pip_install("-r", "pyproject.toml"),))
    if "project" not in project.pyproject:
        return _old_tables(project, plan)
    table = project.table
    inputs = {"pyproject.toml": digest(repr((table.get("dependencies", []), _sorted(project.tool("uv")))))}
    shared = not _local_sources(project.tool("uv", "sources").values())
    shared = shared and not any("@ file:" in one for one in table.get("dependencies", []))
    if "dependencies" in project.dynamic:
        lists = _lists(project)
        shared = shared and lists is not None
        inputs |= lists or {}
    return msgspec.structs.replace(plan, inputs=inputs, shared=shared)


def _lists(project: Project) -> dict[str, str] | None:
    """The requirements files that setuptools takes dynamic dependencies from; None: a back-end may read anything."""
    named = project.tool("setuptools", "dynamic", "dependencies").get("file")
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    found = [read_requirements(project.files, name) for name in names]
    if any(one.local for one in found):
        return None
    return {name: text for one in found for name, text in one.inputs.items()}


def _old_tables(project: Project, plan: Plan) -> Plan:
    """Poetry's and flit's tables from before ``[project]``; their back-ends translate them."""
    poetry, flit = project.tool("poetry"), project.tool("flit", "metadata")
    if not project.pyproject.get("build-system", {}).get("build-backend"):
        tool, backend = ("poetry", "poetry-core") if poetry else ("flit.metadata", "flit_core")
        raise BuildError(
            f"pyproject.toml has [tool.{tool}] and no [build-system]: add one with {backend}, as new projects have it, "
            'or say how it is installed: [build] install = "…"'
        )
    needed = [poetry.get("dependencies"), poetry.get("source"), flit.get("requires"), project.pyproject["build-system"]]
    return msgspec.structs.replace(
        plan,
        inputs={"pyproject.toml": digest(repr(needed))},
        shared=not _local_sources(poetry.get("dependencies", {}).values()),
    )


def _local_sources(values: Iterable[Any]) -> bool:
    return any(isinstance(one, dict) and {"path", "workspace"} & one.keys() for one in _flat(values))


def _flat(values: Iterable[Any]) -> list[Any]:
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


def _sorted(table: Table) -> list[tuple[str, str]]:
    return sorted((key, repr(value)) for key, value in table.items())


def plan_setup_py(project: Project, plan: Plan) -> Plan:
    setup = project.setup
    if not setup.knows("install_requires"):
        # It may read any file to know them.
        return msgspec.structs.replace(plan, commands=(pip_install("-r", "setup.py"),), shared=False)
    if "install_requires" not in setup.literals and _cfg_requires(project):
        return plan_setup_cfg(project, plan)
    return _written_out(plan, setup.texts("install_requires"))


def plan_setup_cfg(project: Project, plan: Plan) -> Plan:
    return _written_out(plan, _cfg_requires(project))


def _cfg_requires(project: Project) -> list[str]:
    text = project.setup_cfg.get("options", {}).get("install_requires", "")
    if text.strip().startswith("file:"):
        names = [name.strip() for name in text.strip().removeprefix("file:").split(",")]
        return [one for name in names for one in read_requirements(project.files, name).requirements]
    return [line.strip() for part in text.splitlines() for line in part.split(";;") if line.strip()]


def _written_out(plan: Plan, requirements: list[str]) -> Plan:
    """Nothing of the project runs to install these."""
    if not requirements:
        return noted(plan, f"{plan.kind} asks for no dependencies")
    local = any("file:" in one for one in requirements)
    return msgspec.structs.replace(
        plan,
        commands=(pip_install("-r", _GIVEN),),
        given={"requirements.txt": "\n".join(requirements) + "\n"},
        shared=not local,
    )
