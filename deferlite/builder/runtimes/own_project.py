"""The project itself as a distribution, in the build's own folder: what is imported stays the tree."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import anyio.to_thread

import deferlite
from deferlite.builder.layout import remove_tree
from deferlite.builder.plan import Command, OwnProject, Plan
from deferlite.builder.runtimes.installer import Installer
from deferlite.builder.workspace import Workspace, expect
from deferlite.sandbox.box import interpreter_folders

COMPLETING = Path(deferlite.__file__).parent / "runner" / "completing.py"

_BUILD = ("{uv}", "pip", "install", "--python", "{python}", "--no-deps", "--target", "{metadata}", "{copy}")
_UNTOLD = (
    "the project's own version could not be found out, as its back-end failed: "
    "importlib.metadata will not know the project"
)
_NO_HISTORY = (
    "the project's version is 0.0.0: a build has no history of git to tell it from; if it matters, "
    'say it in the environment file, such as [env] SETUPTOOLS_SCM_PRETEND_VERSION = "1.2"'
)
_VERSION_VARIABLES = {
    "SETUPTOOLS_SCM_PRETEND_VERSION": "0.0.0",
    "PDM_BUILD_SCM_VERSION": "0.0.0",
    "POETRY_DYNAMIC_VERSIONING_BYPASS": "0.0.0",
    "UV_DYNAMIC_VERSIONING_BYPASS": "0.0.0",
}


async def provide_own(workspace: Workspace, installer: Installer, plan: Plan) -> tuple[Path, ...]:
    """Make the distribution; returns the folder to import it from, if there is any.

    Raises:
        BuildError, WorldError: it has parts to compile, and that failed.
    """
    own, folder = plan.own, workspace.folder.metadata
    if own is None:
        return ()
    await anyio.Path(folder).mkdir(exist_ok=True)
    if own.version is not None and not own.compiled:
        await anyio.to_thread.run_sync(write_metadata, folder, own)
        return (folder,)
    if not await _build(workspace, installer, own):
        await remove_tree(folder)
        return ()
    if await anyio.to_thread.run_sync(lambda: any(folder.glob("*-0.0.0.dist-info"))):
        workspace.journal.say(_NO_HISTORY)
    await _complete(workspace, installer.interpreter.path, plan)
    return (folder,)


async def _build(workspace: Workspace, installer: Installer, own: OwnProject) -> bool:
    """Install a copy: what building leaves behind is not part of the tree."""
    copy = workspace.folder.scratch / "tmp" / "project"
    # In the box: the project's own install command may have left what no copying comes to the end of.
    done = await workspace.command(["cp", "-a", "--", str(workspace.folder.source), str(copy)], venv=None)
    expect(done, "copying the project to build it")
    where = copy / workspace.project.relative_to(workspace.folder.source)
    workspace.journal.say(f"{own.name or 'the project'} is built: {_why(own)}")
    try:
        return await installer.run(
            Command(_BUILD, may_fail="" if own.compiled else _UNTOLD),
            places={"copy": str(where), "metadata": str(workspace.folder.metadata)},
            writable=(workspace.folder.metadata,),
            extra={name: value for name, value in _VERSION_VARIABLES.items() if name not in workspace.env},
        )
    finally:
        await remove_tree(copy)


def _why(own: OwnProject) -> str:
    if own.compiled:
        return "it has parts to compile, of which nothing is kept for the next commit"
    return "only its build back-end knows its version"


async def _complete(workspace: Workspace, python: Path, plan: Plan) -> None:
    roots = [workspace.project / root for root in (*plan.import_roots, "src", ".")]
    done = await workspace.command(
        [str(python), "-I", str(COMPLETING), str(workspace.folder.metadata), *map(str, roots)],
        venv=None,
        read_only=(COMPLETING, workspace.folder.metadata, *interpreter_folders(python)),
    )
    expect(done, "putting what was built beside the sources")


def write_metadata(folder: Path, own: OwnProject) -> None:
    """NAME-VERSION.dist-info as an installer would write it. Blocks."""
    info = folder / f"{re.sub('[-_.]+', '_', own.name)}-{own.version}.dist-info"
    info.mkdir()
    head = ["Metadata-Version: 2.1", f"Name: {own.name}", f"Version: {own.version}"]
    requires = [f"Requires-Dist: {_line(one)}" for one in own.requires]
    (info / "METADATA").write_text("\n".join([*head, *requires]) + "\n", encoding="utf-8")
    (info / "INSTALLER").write_text("deferlite\n", encoding="utf-8")
    (info / "RECORD").write_text("", encoding="utf-8")
    points = [
        f"[{_line(group)}]\n" + "".join(f"{_line(name)} = {_line(target)}\n" for name, target in found.items())
        for group, found in own.entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points), encoding="utf-8")


def _line(text: str) -> str:
    return " ".join(text.split())
