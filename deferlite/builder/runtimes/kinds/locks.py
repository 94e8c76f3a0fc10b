"""Lock files of other tools. Poetry, PDM and Pipenv check and export theirs, run by uv apart from the project."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from deferlite.builder.plan import Command, Plan, digest
from deferlite.builder.runtimes.kinds.pip import pip_install
from deferlite.builder.runtimes.kinds.project import (
    Project,
    Table,
    normal,
    noted,
    packages,
    parse_json,
    parse_toml,
    unmet,
)
from deferlite.model.errors import BuildError

EXPORTED = "exported.txt"
"""What such a tool exports: requirements with their hashes, in ``{taken}``."""

TOOL_VARIABLES = {
    "POETRY_NO_INTERACTION": "1",
    "POETRY_VIRTUALENVS_CREATE": "false",
    "PDM_NON_INTERACTIVE": "1",
    "PDM_CHECK_UPDATE": "0",
    "PDM_IGNORE_SAVED_PYTHON": "1",
    "PIPENV_YES": "1",
    "PIPENV_NOSPIN": "1",
    "PIPENV_VERBOSITY": "-1",
    "PIPENV_DONT_LOAD_ENV": "1",
    "PIPENV_IGNORE_VIRTUALENVS": "0",
}
"""They ask nothing, make no environment of their own and use that of the build."""

_TOOL = ("{uv}", "tool", "run", "--quiet", "--python", "{interpreter}", "--from")
_POETRY = (*_TOOL, "poetry>=2,<3", "--with", "poetry-plugin-export>=1.9,<2", "poetry")
_PDM = (*_TOOL, "pdm>=2.20,<3", "pdm")
_PIPENV = (*_TOOL, "pipenv>=2024.4,<2028", "pipenv")
_INSTALL = pip_install("-r", "{taken}/" + EXPORTED)


def plan_poetry(project: Project, plan: Plan) -> Plan:
    text = _beside_pyproject(project, "poetry.lock")
    locked = packages("poetry.lock", parse_toml("poetry.lock", text))
    cure = "poetry.lock does not fit pyproject.toml: run `poetry lock` and commit poetry.lock"
    export = Command(
        (*_POETRY, "export", "--no-ansi", "--with-credentials", "--output", "{taken}/" + EXPORTED),
        faults=(("changed significantly since poetry.lock", cure), ("poetry.lock is not up to date", cure)),
    )
    tables = [project.table.get("dependencies"), *map(project.tool("poetry").get, ("dependencies", "extras", "source"))]
    return msgspec.structs.replace(
        plan,
        commands=(export, _INSTALL),
        inputs={"poetry.lock": digest(text), "pyproject.toml": digest(repr(tables))},
        shared=not any(_poetry_source(one) in ("directory", "file") for one in locked),
    )


def _poetry_source(package: Table) -> str:
    source = package.get("source", {})
    return str(source.get("type", "")) if isinstance(source, dict) else ""


def plan_pdm(project: Project, plan: Plan) -> Plan:
    text = _beside_pyproject(project, "pdm.lock")
    locked = packages("pdm.lock", parse_toml("pdm.lock", text))
    cure = "pdm.lock does not fit pyproject.toml: run `pdm lock` and commit pdm.lock"
    check = Command((*_PDM, "lock", "--check"), faults=(("doesn't satisfy the project requirements", cure),))
    export = Command((*_PDM, "export", "--prod", "--format", "requirements", "--output", "{taken}/" + EXPORTED))
    tables = [project.table.get("dependencies"), project.table.get("requires-python"), project.tool("pdm")]
    return msgspec.structs.replace(
        plan,
        commands=(check, export, _INSTALL),
        inputs={"pdm.lock": digest(text), "pyproject.toml": digest(repr(tables))},
        shared=not any("path" in one for one in locked),
    )


def _beside_pyproject(project: Project, name: str) -> str:
    if not project.pyproject:
        raise BuildError(f"{name} needs the pyproject.toml it was made from: commit it, or remove {name}")
    return project.files.read(name) or ""


def plan_pipenv(project: Project, plan: Plan) -> Plan:
    pipfile = project.files.read("Pipfile")
    if pipfile is None:
        raise BuildError("Pipfile.lock needs the Pipfile it was made from: commit it, or remove Pipfile.lock")
    parse_toml("Pipfile", pipfile)
    text = project.files.read("Pipfile.lock") or ""
    locked = parse_json("Pipfile.lock", text).get("default", {})
    if not isinstance(locked, dict):
        raise BuildError("Pipfile.lock is not as it should be: run `pipenv lock` and commit Pipfile.lock")
    cure = "Pipfile.lock does not fit Pipfile: run `pipenv lock` and commit Pipfile.lock"
    verify = Command((*_PIPENV, "verify"), faults=(("is out-of-date", cure),))
    export = Command((*_PIPENV, "requirements", "--hash"), output=EXPORTED)
    return msgspec.structs.replace(
        plan,
        commands=(verify, export, _INSTALL),
        inputs={"Pipfile.lock": digest(text), "Pipfile": digest(pipfile)},
        shared=not any(isinstance(one, dict) and {"path", "file"} & one.keys() for one in locked.values()),
    )


def plan_pipfile(project: Project, plan: Plan) -> Plan:
    raise BuildError("Pipfile has no Pipfile.lock beside it: run `pipenv lock` and commit Pipfile.lock")


def plan_pylock(project: Project, plan: Plan) -> Plan:
    text = project.files.read("pylock.toml") or ""
    lock = parse_toml("pylock.toml", text)
    if not str(lock.get("lock-version", "")).startswith("1."):
        raise BuildError("pylock.toml is not as it should be: lock-version has to be 1.0, or a later 1")
    locked = packages("pylock.toml", lock, "packages")
    pins = [(str(one["name"]), str(one.get("version", ""))) for one in locked]
    faults = list(unmet(project.table.get("dependencies", []), pins))
    if faults:
        raise BuildError(
            f"pylock.toml {', '.join(faults)}, which pyproject.toml asks for: make it anew, with uv by "
            "`uv export --format pylock.toml -o pylock.toml`, and commit it"
        )
    plan = msgspec.structs.replace(
        plan,
        commands=(pip_install("--preview-features", "pylock", "-r", "pylock.toml"),),
        inputs={"pylock.toml": digest(text)},
        shared=not any(_in_tree(one) for one in locked),
    )
    return _without_sdk(plan, text) if any(normal(one["name"]) == "deferlite" for one in locked) else plan


def _in_tree(package: Table) -> bool:
    places: list[Any] = [package.get(key) for key in ("directory", "archive", "sdist")] + list(
        package.get("wheels", [])
    )
    return any(isinstance(place, dict) and "path" in place for place in places)


_RELATIVE = re.compile(r"""(\bpath\s*=\s*["'])(?!/)""")


def _without_sdk(plan: Plan, text: str) -> Plan:
    """uv leaves out no package of such a file, and the server brings the SDK itself."""
    head, *blocks = text.split("[[packages]]")
    kept = [block for block in blocks if normal(str(parse_toml("pylock.toml", block).get("name"))) != "deferlite"]
    # It is installed from another folder.
    kept = [_RELATIVE.sub(r"\1{project}/", block) for block in kept]
    plan = msgspec.structs.replace(
        plan,
        commands=(pip_install("--preview-features", "pylock", "-r", "{given}/pylock.toml"),),
        given={"pylock.toml": "[[packages]]".join([head, *kept]) if kept else f"{head}\npackages = []\n"},
    )
    return noted(plan, "deferlite itself is left out of pylock.toml: the server brings it")
