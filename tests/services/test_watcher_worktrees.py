"""``worktree = true``: what is saved in a checkout is built, uncommitted files too."""

from __future__ import annotations

from pathlib import Path

import pytest

from deferlite.model.build import Trigger
from tests.services.watcher_fixtures import Repository, Watched, git, new_repository, watching

pytestmark = pytest.mark.anyio


async def started(watched: Watched, repository: Repository) -> None:
    watched.write("local", repository.path, "worktree = true\n")
    assert (await watched.number("local", 1)).trigger is Trigger.NEW


async def test_saving_a_file_builds_it(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await started(watched, repository)
        (repository.path / "file1.py").write_text("edited")
        build = await watched.number("local", 2)
        assert build.trigger is Trigger.WORKTREE
        assert build.commit == await repository.git("rev-parse", "HEAD")
        assert build.message.startswith("working tree ") and build.message.endswith(" on first")


async def test_new_files_new_folders_and_removed_ones(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await started(watched, repository)
        (repository.path / "new.py").write_text("x")
        await watched.number("local", 2)
        (repository.path / "package" / "inner").mkdir(parents=True)
        (repository.path / "package" / "inner" / "jobs.py").write_text("x")
        await watched.number("local", 3)
        (repository.path / "package" / "inner" / "jobs.py").write_text("longer")
        await watched.number("local", 4)
        (repository.path / "new.py").unlink()
        await watched.number("local", 5)


async def test_an_empty_folder_is_watched_before_it_holds_a_file(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    (repository.path / "empty" / "inner").mkdir(parents=True)
    async with watching(tmp_path) as watched:
        await started(watched, repository)
        (repository.path / "empty" / "inner" / "jobs.py").write_text("x")
        await watched.number("local", 2)


async def test_what_git_ignores_and_editors_leave_behind_builds_nothing(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    (repository.path / ".gitignore").write_text("*.log\nout/\n")
    (repository.path / "out").mkdir()
    async with watching(tmp_path) as watched:
        await started(watched, repository)
        (repository.path / "server.log").write_text("x")
        (repository.path / "out" / "a.py").write_text("x")
        (repository.path / ".file1.py.swp").write_text("x")
        (repository.path / "file1.py~").write_text("x")
        for folder in ("__pycache__", "node_modules", ".venv"):
            (repository.path / folder).mkdir()
            (repository.path / folder / "a.py").write_text("x")
        await repository.git("add", "file1.py")
        (repository.path / "file1.py").write_text("saved")
        await watched.number("local", 2)
        (repository.path / "file1.py").write_text("saved again")
        await watched.number("local", 3)
        assert len(await watched.builds("local")) == 3


async def test_a_checkout_without_commits(tmp_path: Path) -> None:
    await git("init", "-q", "-b", "main", tmp_path / "shop")
    repository = Repository(tmp_path / "shop")
    (repository.path / "jobs.py").write_text("x")
    async with watching(tmp_path) as watched:
        await started(watched, repository)
        assert (await watched.builds("local"))[0].commit is None


async def test_a_restart_builds_only_what_was_saved_meanwhile(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await started(watched, repository)
    async with watching(tmp_path) as watched:
        (repository.path / "file1.py").write_text("saved, and longer")
        await watched.number("local", 2)
    (repository.path / "file1.py").write_text("while away")
    async with watching(tmp_path) as watched:
        await watched.number("local", 3)
        assert len(await watched.builds("local")) == 3


async def test_a_bare_repository_has_no_files_to_build(tmp_path: Path) -> None:
    await git("init", "-q", "--bare", tmp_path / "shop.git")
    async with watching(tmp_path) as watched:
        watched.write("local", tmp_path / "shop.git", "worktree = true\n")
        problem = (await watched.becomes("local", lambda e: e.problem is not None)).problem
        assert problem is not None and "is a bare repository: remove worktree" in problem
