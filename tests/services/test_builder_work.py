"""What happens to builds at work: limits, newer ones, ends before their time."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from deferlite import __version__
from deferlite.builder import service
from deferlite.builder.build import Pipeline
from deferlite.builder.layout import Layout, remove_tree
from deferlite.builder.locks import locked
from deferlite.builder.runtimes.interpreters import Interpreters
from deferlite.builder.service import MOST_OVERTAKEN
from deferlite.model.build import CANCELLED, Build, BuildState, Trigger
from deferlite.model.errors import Conflict, DiskFull
from deferlite.model.events import BuildCancelRequested, BuildRequested
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
        # Discovery itself follows the link that lies in its own folder, to where the box has nothing.
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
        patch.setattr(Pipeline, "_order", None)
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
    assert "(there are " in build.error and " 3." in build.error


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


async def test_fast_commits_do_not_starve_an_environment(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    overtaken = []
    for number in range(MOST_OVERTAKEN):
        overtaken.append(await hanging(shop, repository))
        repository.commit(f"change {number}", {})
    await shop.environment(repository, prebuild="echo hanging; while ! [ -e go ]; do sleep 0.02; done")
    let_finish = await shop.request(repository.git("rev-parse", "HEAD"))
    await shop.eventually(lambda: says(shop, let_finish, "\nhanging"))
    await shop.environment(repository)
    newest = await shop.request(repository.commit("newest", {}))
    (shop.folder(let_finish).source / "go").touch()
    assert (await shop.ended(let_finish)).state is BuildState.SUCCEED
    assert (await shop.ended(newest)).state is BuildState.SUCCEED
    errors = [(await shop.store.builds.get(build.id)).error or "" for build in overtaken]
    assert all(error.startswith("overtaken by build") for error in errors)


async def says(shop: Workshop, build: Build, text: str) -> bool:
    return text in await shop.log(build)


async def test_another_commit_that_a_person_asks_for_waits_its_turn(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    old = repository.git("rev-parse", "HEAD")
    repository.commit("newer", {})
    await shop.environment(repository, prebuild="echo hanging; while ! [ -e go ]; do sleep 0.02; done")
    followed = await shop.request(repository.git("rev-parse", "HEAD"))
    await shop.eventually(lambda: says(shop, followed, "\nhanging"))
    await shop.environment(repository)
    aside = await shop.store.builds.request("shop", commit=old, branch="main", message="", trigger=Trigger.MANUAL)
    (shop.folder(followed).source / "go").touch()
    assert (await shop.ended(followed)).state is BuildState.SUCCEED
    assert (await shop.ended(aside)).state is BuildState.SUCCEED


async def test_a_build_is_cancelled_while_it_fetches(shop: Workshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        await shop.environment(f"git://127.0.0.1:{silent.getsockname()[1]}/shop")
        build = await shop.request("1" * 40)
        await shop.until(build, lambda now: now.state is BuildState.CLONING)
        await shop.store.builds.cancel(build.id)
        with anyio.fail_after(10):
            build = await shop.ended(build)
    assert build.error == CANCELLED
    assert nothing_left(shop, build)


async def test_a_build_is_cancelled_while_it_waits_for_anothers_install(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job(), "requirements.txt": "six\n"})
    first = await shop.build(repository)
    key = Path((await shop.manifest(first)).launch["venv"]).parent.name
    await remove_tree(shop.layout.dependencies(key))
    async with locked(shop.layout.locks / f"{key}.make"):
        await shop.environment(repository, "other")
        build = await shop.request(repository.git("rev-parse", "HEAD"), "other")
        await shop.eventually(lambda: says(shop, build, "CPython"))
        await shop.store.builds.cancel(build.id)
        with anyio.fail_after(10):
            build = await shop.ended(build)
    assert build.error == CANCELLED
    assert nothing_left(shop, build)


async def test_what_is_published_cannot_be_cancelled(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"jobs.py": job()}))
    shop.bus.publish(BuildCancelRequested(environment="shop", build_id=build.id))
    with pytest.raises(Conflict):
        await shop.store.builds.cancel(build.id)
    assert await shop.live() == build.id
    assert shop.folder(build).manifest.exists()


async def test_a_build_tells_how_long_each_state_took(shop: Workshop) -> None:
    """By its steps alone: who shows a log shows them beside it."""
    build = await shop.build(shop.repository({"jobs.py": job()}), prebuild="true")
    steps = {str(step.state): step.finished_at for step in build.steps}
    assert [*steps] == ["started", "cloning", "installing", "generating", "compiling", "publishing"]
    assert all(steps.values()) and " took " not in await shop.log(build)


async def test_a_failed_build_says_which_builder_it_had(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"main.py": ""}))
    assert (build.state, build.builder) == (BuildState.FAILED, __version__)


async def test_what_a_build_adds_is_kept_with_it(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    await shop.build(repository)
    newer = [repository.commit(f"change {number}", {}) for number in range(3)]
    build = await shop.build(repository)
    assert build.changes is not None
    assert [commit.id for commit in build.changes.commits] == newer[::-1]


async def test_an_end_that_cannot_be_written_is_written_later(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RETRY_SECONDS", 0.05)
    fail, refused = shop.store.builds.fail, [DiskFull("the disk is full"), DiskFull("the disk is full")]

    async def fail_later(build_id: str, error: str) -> Build:
        if refused:
            raise refused.pop()
        return await fail(build_id, error)

    monkeypatch.setattr(shop.store.builds, "fail", fail_later)
    build = await shop.build(shop.repository({"main.py": ""}))
    assert (build.state, refused) == (BuildState.FAILED, [])


async def test_the_log_names_django_and_that_there_are_no_dependencies(shop: Workshop) -> None:
    program = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'conf')\n"
    files = {"manage.py": program, "conf.py": "", "django/__init__.py": "def setup(): ...\n", "jobs.py": job()}
    log = await shop.log(await shop.build(shop.repository(files)))
    assert "no dependencies are named\n" in log
    assert "found Django: it is set up with conf\n" in log
