"""Every way Python projects name their dependencies: one detector each, in the order that decides."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from deferlite.builder.plan import Plan
from deferlite.builder.runtimes.kinds.locks import plan_pdm, plan_pipenv, plan_pipfile, plan_poetry, plan_pylock
from deferlite.builder.runtimes.kinds.pip import (
    folder_list,
    plan_folder,
    plan_requirements,
    plan_scripts,
    plan_unpinned,
    scripts,
)
from deferlite.builder.runtimes.kinds.project import Project
from deferlite.builder.runtimes.kinds.sources import (
    names_dependencies,
    plan_pyproject,
    plan_setup_cfg,
    plan_setup_py,
)
from deferlite.builder.runtimes.kinds.uv_lock import locate, plan_uv_lock


class Kind(msgspec.Struct, frozen=True):
    name: str
    """The file that names the dependencies, or what people call it."""
    plan: Callable[[Project, Plan], Plan]
    """Completes a plan; raises BuildError where the files are wrong."""
    there: Callable[[Project], bool] | None = None
    """None: it is there where its file is."""
    parts: tuple[str, ...] = ()
    """Other kinds whose files belong to this one."""

    def is_there(self, project: Project) -> bool:
        return project.has(self.name) if self.there is None else self.there(project)


KINDS = (
    Kind("uv.lock", plan_uv_lock, lambda project: locate(project) is not None, parts=("pyproject.toml",)),
    Kind("pylock.toml", plan_pylock, parts=("pyproject.toml",)),
    Kind("poetry.lock", plan_poetry, parts=("pyproject.toml",)),
    Kind("pdm.lock", plan_pdm, parts=("pyproject.toml",)),
    Kind("Pipfile.lock", plan_pipenv, parts=("Pipfile",)),
    Kind("requirements.txt", plan_requirements, parts=("requirements.in",)),
    Kind("requirements/", plan_folder, lambda project: folder_list(project) is not None),
    Kind("requirements.in", plan_unpinned),
    Kind("pyproject.toml", plan_pyproject, names_dependencies, parts=("setup.py", "setup.cfg")),
    Kind("setup.py", plan_setup_py, parts=("setup.cfg",)),
    Kind("setup.cfg", plan_setup_cfg, lambda project: bool({"metadata", "options"} & project.setup_cfg.keys())),
    Kind("Pipfile", plan_pipfile),
    Kind("inline script metadata", plan_scripts, lambda project: bool(scripts(project))),
)
"""Where several are there, the first one decides: locks before lists, lists before ranges."""

UNKNOWN = {
    "environment.yml": "conda",
    "environment.yaml": "conda",
    "conda-lock.yml": "conda",
    "pixi.lock": "pixi",
    "pixi.toml": "pixi",
    "requirements.lock": "rye",
    "buildout.cfg": "buildout",
}
"""Files that name dependencies for tools which deferlite does not run."""
