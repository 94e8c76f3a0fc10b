"""Repositories whose owner wishes the server ill, or has strange taste: nothing outside of them is touched."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pytest

from deferlite.builder.source import copy_files
from deferlite.sandbox import git
from tests.services.watcher_fixtures import new_repository, watching

pytestmark = pytest.mark.anyio


async def test_a_worktree_is_not_left_through_a_folder_that_became_a_link(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "admin.token").write_text("secret")
    repository = await new_repository(tmp_path / "shop")
    (repository.path / "x").mkdir()
    (repository.path / "x" / "admin.token").write_text("bait")
    await repository.commit()
    (repository.path / "x" / "admin.token").unlink()
    (repository.path / "x").rmdir()
    (repository.path / "x").symlink_to(tmp_path / "home")
    names = await git.worktree_files(repository.path)
    assert "x/admin.token" in names
    await anyio.to_thread.run_sync(copy_files, repository.path, names, tmp_path / "copy")
    assert not [path for path in (tmp_path / "copy").rglob("*") if path.name == "admin.token"]


def test_a_worktree_is_not_left_by_dots(tmp_path: Path) -> None:
    (tmp_path / "shop" / "a").mkdir(parents=True)
    (tmp_path / "admin.token").write_text("secret")
    names = ["../admin.token", "a/../../admin.token", str(tmp_path / "admin.token")]
    assert copy_files(tmp_path / "shop", names, tmp_path / "builds" / "copy") == 0
    assert [path.name for path in (tmp_path / "builds").rglob("*")] == ["copy"]


def test_a_copy_keeps_links_modes_and_times(tmp_path: Path) -> None:
    top, copy = tmp_path / "shop", tmp_path / "copy"
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "run").write_text("#!/bin/sh\n")
    (top / "bin" / "run").chmod(0o755)
    (top / "link").symlink_to("bin/run")
    assert copy_files(top, ["bin/run", "link", "gone", "bin"], copy) == 2
    assert (copy / "bin" / "run").read_text() == "#!/bin/sh\n"
    assert (copy / "bin" / "run").stat().st_mode & 0o777 == 0o755
    assert (copy / "bin" / "run").stat().st_mtime_ns == (top / "bin" / "run").stat().st_mtime_ns
    assert (copy / "link").readlink() == Path("bin/run")


async def test_a_branch_with_a_line_separator_in_its_name_is_built(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("checkout", "-qb", "a\u2028b\u0085c")
    commit = await repository.commit("second")
    async with watching(tmp_path) as watched:
        watched.write("shop", repository.path)
        assert (await watched.built("shop", commit)).branch == "a\u2028b\u0085c"


@pytest.mark.parametrize("followed", ["main", None])
async def test_a_commits_subject_is_told_as_one_plain_short_line(tmp_path: Path, followed: str | None) -> None:
    repository = await new_repository(tmp_path / "shop", "red \x1b[31m alert\u2028\x1c two " + "x" * 100_000)
    if followed is None:
        await repository.git("checkout", "-q", "--detach")
    tip = await git.local_tip(await git.open_checkout(repository.path), followed)
    assert tip.subject.startswith("red \ufffd[31m alert\ufffd\ufffd two xxx")
    assert len(tip.subject) == git.LONGEST_SUBJECT


async def test_a_line_break_in_the_way_to_a_repository_stops_no_other(tmp_path: Path) -> None:
    strange = await new_repository(tmp_path / "a\nb", "first")
    (tmp_path / "link").symlink_to(strange.path)
    good = await new_repository(tmp_path / "good", "first")
    async with watching(tmp_path) as watched:
        watched.write("strange", tmp_path / "link")
        problem = (await watched.becomes("strange", lambda environment: environment.problem is not None)).problem
        assert problem is not None and "line break" in problem
        watched.write("good", good.path)
        await watched.built("good", await good.git("rev-parse", "HEAD"))
