"""What builds share and take over, what is made once, and what is given back to the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import msgspec
import pytest

from deferlite.builder.canaries import Canaries
from deferlite.builder.layout import remove_tree
from deferlite.builder.locks import FileLock, locked
from deferlite.builder.program import make_runtimes
from deferlite.builder.shelf import Shelf
from deferlite.builder.trash import CACHE_SECONDS, RETIRED_SECONDS, Trash
from deferlite.builder.twins import link_tree
from deferlite.model.build import Build, BuildState, Trigger
from deferlite.model.clock import ManualClock, SystemClock
from deferlite.model.environment import Preview, PreviewSettings
from deferlite.model.events import EnvironmentChanged
from deferlite.sandbox.removal import remove
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.support import Repository, until_found

pytestmark = pytest.mark.anyio
TAKEN_OVER = "taken over from build #1: same commit and settings"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


# The same commit with the same settings.


async def back_and_forth(shop: Workshop, repository: Repository, **settings: object) -> tuple[Build, Build]:
    """The first commit, another one, and the first again: the build of the first and that of the last."""
    first = await shop.build(repository, **settings)
    commit = repository.git("rev-parse", "HEAD")
    repository.commit("another", {"jobs.py": job("other")})
    await shop.build(repository, **settings)
    repository.git("reset", "--quiet", "--hard", commit)
    return first, await shop.build(repository, **settings)


async def test_the_same_commit_with_the_same_settings_is_built_once(shop: Workshop) -> None:
    prebuild = "echo generated > note.txt"
    first, again = await back_and_forth(shop, shop.repository({"jobs.py": job(), "a/b.txt": "b"}), prebuild=prebuild)
    assert (first.state, again.state, again.error) == (BuildState.SUCCEED, BuildState.SUCCEED, None)
    assert await shop.live() == again.id
    log = await shop.log(again)
    assert TAKEN_OVER in log and "found 1" not in log
    assert await shop.functions(again) == ["job"]
    assert (await shop.launch(again)).project == shop.folder(again).source
    there, here = shop.folder(first).source, shop.folder(again).source
    assert {path.relative_to(there) for path in there.rglob("*")} == {
        path.relative_to(here) for path in here.rglob("*")
    }
    assert (here / "note.txt").read_text() == "generated\n"
    assert (await shop.manifest(again)) == await shop.manifest(first)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


async def test_the_taken_over_outlives_the_one_it_came_from(shop: Workshop) -> None:
    first, again = await back_and_forth(shop, shop.repository({"jobs.py": job()}))
    await remove_tree(shop.folder(first).path)
    assert (shop.folder(again).source / "jobs.py").read_text() == job()
    assert (await shop.launch(again)).modules == ("jobs",)


@pytest.mark.parametrize("settings", [{"prebuild": "pwd > where.txt"}, {"install": "true"}], ids=["its folder", "venv"])
async def test_what_names_its_own_folder_is_built_again(shop: Workshop, settings: dict[str, str]) -> None:
    _, again = await back_and_forth(shop, shop.repository({"jobs.py": job()}), **settings)
    assert again.state is BuildState.SUCCEED
    assert TAKEN_OVER not in await shop.log(again)


async def test_other_settings_are_another_build(shop: Workshop) -> None:
    secret = shop.tmp_path / "secret"
    secret.write_text("one")
    repository = shop.repository({"jobs.py": job()})
    env = {"KEY": {"file": str(secret)}}
    await shop.build(repository, env=env)
    assert TAKEN_OVER in await shop.log(await shop.build(repository, env=env))
    secret.write_text("two")
    assert "taken over" not in await shop.log(await shop.build(repository, env=env))
    assert "taken over" not in await shop.log(await shop.build(repository, env=env, python=sys.version.split()[0]))


async def test_a_person_who_asks_for_a_build_gets_one(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    build = await shop.build(repository)
    again = await shop.ended(
        await shop.store.builds.request("shop", commit=build.commit, branch="main", message="", trigger=Trigger.MANUAL)
    )
    assert again.state is BuildState.SUCCEED and "taken over" not in await shop.log(again)


async def test_a_person_who_asks_for_an_older_commit_gets_its_build(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    first = await shop.build(repository)
    repository.commit("another", {"jobs.py": job("other")})
    second = await shop.build(repository)

    async def asked(build: Build) -> str:
        commit = build.commit
        made = await shop.store.builds.request("shop", commit=commit, branch=None, message="", trigger=Trigger.MANUAL)
        return await shop.log(await shop.ended(made))

    assert TAKEN_OVER in await asked(first)
    assert "taken over" not in await asked(first)
    assert "taken over" not in await asked(second)


async def test_a_worktree_is_never_taken_over(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    await shop.build(repository, worktree=True)
    assert "taken over" not in await shop.log(await shop.build(repository, worktree=True))


async def test_another_environment_builds_for_itself(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    await shop.build(repository, "one")
    assert "taken over" not in await shop.log(await shop.build(repository, "two"))


def test_links_are_kept_as_they_are(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "empty").touch()
    (tree / "link").symlink_to("folder")
    (tree / "dangling").symlink_to("/nowhere")
    os.mkfifo(tree / "pipe")
    assert link_tree(tree, tmp_path / "copy", without="/elsewhere")
    assert sorted(path.name for path in (tmp_path / "copy").rglob("*")) == ["dangling", "empty", "folder", "link"]
    assert not link_tree(tree, tmp_path / "other", without="/nowhere")


# What is made once.


def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf", tmp_path / "locks", unused_seconds=100)


async def test_two_who_want_the_same_make_it_once(tmp_path: Path) -> None:
    made = []

    async def make(folder: Path) -> None:
        made.append(folder)
        await anyio.wait_all_tasks_blocked()  # The others want it too by now.

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(shelf(tmp_path).provide, "key", make, {})
    assert len(made) == 1


async def test_one_who_fails_leaves_it_to_the_next(tmp_path: Path) -> None:
    async def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("broken")

    async def make(folder: Path) -> None:
        assert not (folder / "half").exists()

    with pytest.raises(OSError, match="broken"):
        await shelf(tmp_path).provide("key", fail, {})
    assert not (tmp_path / "shelf" / "key").exists()
    assert not await shelf(tmp_path).provide("key", make, {})
    assert await shelf(tmp_path).provide("key", fail, {})


HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its stdin is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


async def test_another_process_is_waited_for_and_the_wait_can_be_cancelled(tmp_path: Path) -> None:
    with hold(tmp_path / "lock") as other:
        with anyio.move_on_after(0.1) as scope:
            async with locked(tmp_path / "lock"):
                pytest.fail("it is held")
        assert scope.cancelled_caught
        other.kill()
        with anyio.fail_after(5):
            async with locked(tmp_path / "lock"):
                pass


async def test_many_share_a_lock_and_a_removed_one_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    one, two, alone = FileLock(path, shared=True), FileLock(path, shared=True), FileLock(path)
    assert one.take() and two.take() and not alone.take()
    one.free()
    two.free()
    assert alone.take()
    alone.free(remove=True)
    assert not path.exists()
    assert one.take()


async def test_what_is_pruned(tmp_path: Path) -> None:
    async def make(folder: Path) -> None: ...

    things = shelf(tmp_path)
    for key in ("used", "held", "new", "old"):
        await things.provide(key, make, {})
        if key != "new":
            os.utime(tmp_path / "shelf" / key, (1, 1))
    for key in ("half", "at-work"):
        (tmp_path / "shelf" / key).mkdir()
    with hold(tmp_path / "locks" / "at-work.make") as other:
        async with locked(tmp_path / "locks" / "held.use", shared=True):
            assert sorted(await things.prune(["used"])) == ["half", "old"]
        other.kill()
    assert sorted(path.name for path in (tmp_path / "shelf").iterdir()) == ["at-work", "held", "new", "used"]


async def test_what_was_held_counts_as_new(tmp_path: Path) -> None:
    async def make(folder: Path) -> None: ...

    things = shelf(tmp_path)
    await things.provide("key", make, {})
    async with things.holding("key"):
        os.utime(tmp_path / "shelf" / "key", (1, 1))
    assert await things.prune() == []


# What is given back.


def test_read_only_trees_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    outside.mkdir()
    outside.chmod(0o500)
    (tree / "a" / "link").symlink_to(outside)
    for folder in (tree / "a" / "b", tree / "a", tree):
        folder.chmod(0o500)
    # From here on without the folders above, which are closed to others.
    monkeypatch.chdir(tmp_path)
    as_nobody(tmp_path, lambda: remove(Path("tree")))
    assert not tree.exists()
    assert outside.stat().st_mode & 0o777 == 0o500


NOBODY = 65534


def as_nobody(folder: Path, action: Callable[[], None]) -> None:
    """To root no folder is read-only: there it is done by a child that is not root, below ``folder``."""
    if os.getuid() != 0:
        action()
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            action()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


def trash(shop: Workshop, clock: SystemClock | ManualClock) -> Trash:
    runtimes = tuple(make_runtimes(shop.layout).values())
    return Trash(shop.store, shop.layout, runtimes, Canaries(shop.layout, shop.status), clock)


async def until_gone(path: Path) -> None:
    await anyio.to_thread.run_sync(until_found, lambda: not path.exists())


async def test_a_retired_preview_gives_its_disk_back_at_once(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job(), "requirements.txt": "six\n"})
    await shop.environment(repository, preview=PreviewSettings(branches=("*",)))
    config = (await shop.store.environments.get("shop")).config
    assert config is not None
    copy = msgspec.structs.replace(config, preview=None)
    await shop.store.environments.apply("copy", copy, "shop.toml", Preview(of="shop", branch="main"))
    build = await shop.ended(await shop.request(repository.git("rev-parse", "HEAD"), "copy"))
    assert (build.state, shop.layout.uv_cache("copy").exists()) == (BuildState.SUCCEED, True)
    await shop.store.environments.retire("copy")
    await until_gone(shop.layout.builds / "copy")
    await until_gone(shop.layout.uv_cache("copy"))


async def test_a_retired_environment_keeps_its_live_build_for_an_hour(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    old = await shop.build(repository)
    repository.commit("newer", {"jobs.py": job("newer")})
    live = await shop.build(repository)
    await shop.store.environments.retire("shop")
    await until_gone(shop.folder(old).path)
    assert shop.folder(live).manifest.exists()
    clock = ManualClock(SystemClock().now())
    clock.advance(RETIRED_SECONDS + 60)
    await trash(shop, clock).prune("shop")
    assert not (shop.layout.builds / "shop").exists()


async def test_an_environment_that_comes_back_without_its_files_is_built_again(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    lost = await shop.build(repository)
    await remove_tree(shop.folder(lost).path)
    shop.bus.publish(EnvironmentChanged(environment="shop"))

    async def another() -> str | None:
        live = await shop.live()
        return live if live != lost.id else None

    live = await shop.eventually(another)
    assert shop.layout.build("shop", live).manifest.exists()


async def test_caches_that_nothing_uses_are_removed(idle: Workshop) -> None:
    for name in ("old", "new"):
        idle.layout.uv_cache(name).mkdir(parents=True)
    before = time.time() - CACHE_SECONDS - 60
    os.utime(idle.layout.uv_cache("old"), (before, before))
    await trash(idle, SystemClock()).prune_all()
    assert [path.name for path in idle.layout.uv_caches.iterdir()] == ["new"]


async def test_a_manifest_that_cannot_be_read_costs_nobody_dependencies(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"jobs.py": job(), "requirements.txt": "six\n"}))
    key = Path((await shop.manifest(build)).launch["venv"]).parent.name
    os.utime(shop.layout.dependencies(key), (1, 1))
    manifest = shop.folder(build).manifest
    manifest.write_text("{}")
    await trash(shop, SystemClock()).prune("shop")
    assert shop.layout.dependencies(key).exists()
