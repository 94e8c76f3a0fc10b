"""What can be wrong with a project or happen to a build: a clear message, the live build stays, nothing is left."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deferlite.builder.build import Pipeline
from deferlite.builder.layout import Layout
from deferlite.builder.runtimes.interpreters import Interpreters
from deferlite.model.build import Build, BuildState
from deferlite.model.events import BuildRequested
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.support import Repository

pytestmark = pytest.mark.anyio
HANG = "echo hanging; sleep 600"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Workshop]:
    """The service does not run by itself."""
    async with workshop(tmp_path) as made:
        yield made


def nothing_left(shop: Workshop, build: Build) -> bool:
    dependencies = shop.layout.cache / "dependencies"
    half_made = [path for path in dependencies.glob("*") if not (path / "complete.json").exists()]
    return not shop.folder(build).path.exists() and not half_made


WRONG: dict[str, tuple[dict[str, str], dict[str, Any], list[str]]] = {
    "an import error": (
        {"shop/jobs.py": "from deferlite import defer\n\nimport nosuchthing\n"},
        {},
        ["cannot import shop.jobs", "nosuchthing", "shop/jobs.py, line 3"],
    ),
    "a syntax error": ({"jobs.py": "from deferlite import defer\ndef job(:\n"}, {}, ["SyntaxError", "jobs.py, line 2"]),
    "two of one name": ({"a.py": job(), "b.py": job()}, {}, ['named "job"', "a.py", "b.py", "rename one"]),
    "no functions": ({"main.py": "print('hi')\n"}, {}, ["no background functions", "@defer"]),
    "a bad cron": (
        {"jobs.py": 'from deferlite import defer\n\n@defer.cron("61 * * * *")\ndef job(): ...\n'},
        {},
        ["function job (jobs.py, line 3)", "61 * * * *"],
    ),
    "a missing folder": ({"apps/web/jobs.py": job()}, {"directory": "apps/api"}, ["apps/api", "folders are: apps"]),
    "a folder outside": ({"jobs.py": job()}, {"directory": "../.."}, ["leads out of the repository"]),
    "a Python that is too old": ({"jobs.py": job()}, {"python": "3.9"}, ["asks for Python 3.9", "3.10 or later"]),
    "a Python that is none": ({"jobs.py": job()}, {"python": "snake"}, ["[build] python", "'snake'"]),
    "a runtime that is not there": ({"jobs.py": job()}, {"runtime": "node"}, ['runtime = "node"', "python"]),
    "a failing prebuild": (
        {"jobs.py": job()},
        {"prebuild": "echo first; echo too bad >&2; exit 7"},
        ["prebuild", "exit status 7", "too bad"],
    ),
    "a failing install": ({"jobs.py": job()}, {"install": "nosuchcommand"}, ["`nosuchcommand` failed", "not found"]),
    "a package that is not there": (
        {"jobs.py": job(), "requirements.txt": "six==0.0.99999\n"},
        {},
        ["uv pip install", "six==0.0.99999"],
    ),
    "a missing include": ({"jobs.py": job(), "requirements.txt": "-r more.txt\n"}, {}, ["line 1", "more.txt"]),
    "a wrong pyproject": ({"jobs.py": job(), "pyproject.toml": "[project\n"}, {}, ["pyproject.toml is not TOML"]),
    "an exit while importing": (
        {"jobs.py": "import os\nfrom deferlite import defer\nos._exit(4)\n"},
        {},
        ["looking for the background functions", "exit status 4"],
    ),
    "a secret that is not there": (
        {"jobs.py": job()},
        {"env": {"KEY": {"file": "/nowhere/key"}}},
        ["[env] KEY", "/nowhere/key", "No such file"],
    ),
    "too slow": ({"jobs.py": job()}, {"timeout": 0.5, "prebuild": HANG}, ["longer than 0.5 s", "[build] timeout"]),
}


@pytest.mark.parametrize("fault", WRONG)
async def test_wrong_projects(shop: Workshop, fault: str) -> None:
    files, settings, expected = WRONG[fault]
    good = await shop.build(shop.repository({"jobs.py": job()}, "good"))
    build = await shop.build(shop.repository(files, "bad"), **settings)
    assert build.state is BuildState.FAILED
    assert build.error is not None
    assert [part for part in expected if part not in build.error] == [], build.error
    assert build.error.splitlines()[0] in await shop.log(build)
    assert await shop.live() == good.id
    assert (await shop.launch(good)).modules == ("jobs",)
    assert nothing_left(shop, build)


async def test_a_repository_that_is_not_there(shop: Workshop) -> None:
    await shop.environment("/nowhere/shop")
    build = await shop.ended(await shop.request("0" * 40))
    assert build.error is not None and "/nowhere/shop does not exist" in build.error


@pytest.mark.parametrize("scheme", ["", "file://"])
async def test_a_commit_that_is_not_there(shop: Workshop, scheme: str) -> None:
    repository = shop.repository({"jobs.py": job()})
    await shop.environment(f"{scheme}{repository.path}")
    build = await shop.ended(await shop.request("1" * 40))
    assert build.error is not None and "commit 111111111111" in build.error
    assert nothing_left(shop, build)


async def test_a_symlink_out_of_the_repository_is_no_project(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    (repository.path / "out").symlink_to("/etc")
    repository.commit("a link", {})
    build = await shop.build(repository, directory="out")
    assert build.error is not None and "leads out of the repository" in build.error


async def hanging(shop: Workshop, repository: Repository, name: str = "shop") -> Build:
    """A build that stays in its prebuild."""
    await shop.environment(repository, name, prebuild=HANG)
    build = await shop.request(repository.git("rev-parse", "HEAD"), name)

    async def reached() -> bool:
        return "\nhanging" in await shop.log(build)

    await shop.eventually(reached)
    return build


async def test_a_build_cannot_lead_the_server_elsewhere_by_links(shop: Workshop) -> None:
    victim = shop.tmp_path / "victim"
    victim.write_text("mine")
    names = "given/discover.json taken/functions.json ../manifest.partial"
    link = f"for name in {names}; do ln -sf {victim} $HOME/../$name; done"
    build = await shop.build(shop.repository({"jobs.py": job()}), prebuild=f"({link}) || true")
    assert victim.read_text() == "mine"
    if shop.status.bwrap is not None:
        # discover.py itself follows the link that lies in its own folder, to where the box has nothing.
        assert build.state is BuildState.FAILED


async def test_an_install_that_is_cut_off_leaves_nothing_half_made(shop: Workshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/six-1.17.0-py3-none-any.whl"
        repository = shop.repository({"jobs.py": job(), "requirements.txt": f"six @ {address}\n"})
        build = await shop.build(repository, timeout=2)
    assert build.error is not None and "longer than 2 s" in build.error
    assert [step.state.value for step in build.steps][-1] == "installing"
    assert nothing_left(shop, build)


async def test_a_newer_commit_overtakes_the_build_at_work(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    old = await hanging(shop, repository)
    commit = repository.commit("newer", {})
    new = await shop.build(repository)
    assert new.state is BuildState.SUCCEED
    old = await shop.store.builds.get(old.id)
    assert (old.state, old.error) == (BuildState.FAILED, f"overtaken by build {new.number} ({commit[:12]})")
    assert nothing_left(shop, old)


async def test_environments_are_built_side_by_side_up_to_the_limit(idle: Workshop) -> None:
    async with idle.at_work(max_builds=2):
        repository = idle.repository({"jobs.py": job()})
        await hanging(idle, repository, "one")
        await hanging(idle, repository, "two")
        await idle.environment(repository, "three")
        third = await idle.request(repository.git("rev-parse", "HEAD"), "three")
        assert third.state is BuildState.CREATED
        await idle.environment(repository, "one")
        await idle.request(repository.git("rev-parse", "HEAD"), "one")
        assert (await idle.ended(third)).state is BuildState.SUCCEED


async def test_a_stop_leaves_the_build_to_the_next_start(idle: Workshop) -> None:
    repository = idle.repository({"jobs.py": job()})
    async with idle.at_work():
        build = await hanging(idle, repository)
    assert (await idle.store.builds.get(build.id)).finished_at is None
    await idle.store.builds.fail_unfinished("cut off")
    (idle.layout.dependencies("half") / "venv").mkdir(parents=True)
    async with idle.at_work():
        again = await idle.build(repository)
        assert again.state is BuildState.SUCCEED
        assert nothing_left(idle, build)


async def test_builds_requested_before_the_start_are_taken(idle: Workshop) -> None:
    repository = idle.repository({"jobs.py": job()})
    await idle.environment(repository)
    build = await idle.request(repository.git("rev-parse", "HEAD"))
    async with idle.at_work():
        assert (await idle.ended(build)).state is BuildState.SUCCEED


async def test_an_error_inside_deferlite_fails_the_build_and_not_the_service(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = shop.repository({"jobs.py": job()})
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_workspace", None)
        build = await shop.build(repository)
    assert build.error is not None and build.error.startswith("(internal) TypeError")
    assert nothing_left(shop, build)
    assert (await shop.build(repository)).state is BuildState.SUCCEED


async def test_an_event_for_the_build_at_work_itself_does_not_end_it(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    build = await hanging(shop, repository)
    shop.bus.publish(BuildRequested(environment="shop", build_id=build.id))
    assert (await shop.store.builds.get(build.id)).state is BuildState.GENERATING


async def test_an_interpreter_that_nothing_has_lists_what_there_is(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def offline(self: Interpreters, request: object) -> str:
        return "no network"

    monkeypatch.setattr(Interpreters, "_download", offline)
    build = await shop.build(shop.repository({"jobs.py": job(), ".python-version": "3.38\n"}))
    assert build.error is not None
    assert ".python-version asks for Python 3.38" in build.error and "no network" in build.error
    assert "there are 3." in build.error


def test_layout_is_below_the_home(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.build("shop", "1").source == tmp_path / "builds" / "shop" / "1" / "source"


async def test_the_log_is_whole_when_the_build_has_ended(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    await shop.environment(repository)
    build = await shop.request(repository.git("rev-parse", "HEAD"))
    await shop.ended(build)
    # Read at once: nothing may be written afterwards.
    assert "found 1: job" in await shop.log(build)


async def test_a_name_that_is_no_utf8_is_told_in_the_error(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    Path(os.fsdecode(os.fsencode(repository.path) + b"/caf\xe9")).mkdir()
    Path(os.fsdecode(os.fsencode(repository.path) + b"/caf\xe9/x.py")).write_text(job("other"))
    repository.commit("latin", {})
    failed = await shop.build(repository, directory="nowhere")
    assert failed.state is BuildState.FAILED
    assert "caf" in (failed.error or "") and "nowhere" in await shop.log(failed)
    good = await shop.build(repository)
    assert good.finished_at is not None
