"""Folders that modules are imported from: they reach the runner in the order of the build, and lead nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deferlite.model.build import BuildState
from deferlite.model.errors import NotFound
from tests.services.builder_fixtures import Workshop, job, workshop

pytestmark = pytest.mark.anyio
HOSTILE = """
import json, os
def dump(answer, file, default):
    answer["import_paths"].append({path!r})
    {more}
    file.write(json.dumps(answer, default=default))
json.dump = dump
"""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


async def test_they_reach_the_runner_in_order(shop: Workshop) -> None:
    files = {
        "apps/api/src/api/jobs.py": f"import shared\n{job()}",
        "apps/api/pyproject.toml": '[project]\nname = "api"\nversion = "1"\ndependencies = ["shared"]\n'
        '[tool.uv.sources]\nshared = { path = "../../libs/shared", editable = true }\n',
        "libs/shared/pyproject.toml": '[project]\nname = "shared"\nversion = "1"\n',
        "libs/shared/shared/__init__.py": "",
    }
    build = await shop.build(shop.repository(files), directory="apps/api")
    assert build.state is BuildState.SUCCEED, build.error
    plan = await shop.launch(build)
    assert plan.path[:2] == (plan.project / "src", plan.project)
    assert all(".." not in path.parts for path in plan.path)


async def test_a_project_cannot_have_the_machine_shown(shop: Workshop) -> None:
    hostile = HOSTILE.format(path="../../../../..", more="pass")
    build = await shop.build(shop.repository({"jobs.py": hostile + job()}))
    assert build.state is BuildState.FAILED
    assert "which leads out of it" in str(build.error)


async def test_nor_by_way_of_a_link(shop: Workshop) -> None:
    hostile = HOSTILE.format(path="away", more="os.symlink('/etc', 'away')")
    build = await shop.build(shop.repository({"jobs.py": hostile + job()}))
    assert build.state is BuildState.SUCCEED, build.error
    with pytest.raises(NotFound, match="not part of it"):
        await shop.launch(build)
