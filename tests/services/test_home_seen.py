"""What code of a project sees of the server's home: its own, and nothing of another environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from deferlite.builder.layout import BuildFolder
from deferlite.model.build import Build
from deferlite.sandbox.process import run
from deferlite.sandbox.runner import runner_box
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.services.git_fixtures import git_daemon

pytestmark = [pytest.mark.anyio, pytest.mark.needs("bwrap")]

LIST = """
import os, sys
for folder, folders, files in os.walk(sys.argv[1]):
    for name in (*files, *(one for one in folders if not os.listdir(os.path.join(folder, one)))):
        print("seen:" + os.path.join(folder, name))
"""


def places(shop: Workshop, build: Build, lines: list[str]) -> set[str]:
    """The shortest parts of the seen paths that say what they are of; the build's own folder is BUILD."""
    own = str(shop.folder(build).path.relative_to(shop.layout.home))
    seen = {line.removeprefix(f"seen:{shop.layout.home}/") for line in lines if line.startswith("seen:")}
    parts = (path.replace(own, "BUILD").split("/") for path in seen)
    return {"/".join(part[: 2 if part[0] == "BUILD" else 3]) for part in parts}


async def test_a_prebuild_and_an_execution_see_their_own_alone(tmp_path: Path) -> None:
    files = {"jobs.py": job(), "list.py": LIST, "requirements.txt": "six==1.17.0\n"}
    async with workshop(tmp_path) as shop, shop.at_work():
        other = shop.repository(files | {"requirements.txt": "idna==3.10\n"}, "served/other")
        with git_daemon(tmp_path / "served") as address:
            await shop.environment(f"{address}/other", "other")
            assert (await shop.ended(await shop.request(other.git("rev-parse", "HEAD"), "other"))).live
        assert list(shop.layout.git.iterdir())
        mine = shop.repository(files)
        build = await shop.build(mine, prebuild=f"python list.py {shop.layout.home}")
        assert build.live, build.error
        launch = await shop.launch(build)
        dependencies = str(launch.interpreter.parent.parent.parent.relative_to(shop.layout.home))
        prebuilt = places(shop, build, (await shop.log(build)).split("\n"))
        assert prebuilt == {"BUILD/source", "BUILD/scratch", dependencies}
        executed: list[str] = []
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        argv = [str(launch.interpreter), str(launch.project / "list.py"), str(shop.layout.home)]
        box = runner_box(launch, scratch)
        done = await run(
            argv,
            cwd=box.cwd,
            env=box.env,
            status=shop.status,
            box=box,
            timeout=60,
            on_line=lambda _, x: executed.append(x),
        )
        assert done.returncode == 0, done.output_tail
        assert places(shop, build, executed) == {*(f"BUILD/{name}" for name in names(shop.folder(build))), dependencies}


def names(folder: BuildFolder) -> list[str]:
    return [path.name for path in folder.path.iterdir()]
