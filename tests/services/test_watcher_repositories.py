"""Every way a branch moves, in real repositories: each asks for one build of where it ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deferlite.model.build import Trigger
from tests.services.watcher_fixtures import Repository, first_build, git, new_repository, watching

pytestmark = pytest.mark.anyio


async def test_a_new_environment_is_built(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first\n\nbody")
    async with watching(tmp_path) as watched:
        watched.write("staging", repository.path)
        build = await watched.number("staging", 1)
        assert (build.branch, build.message, build.trigger) == ("main", "first", Trigger.NEW)
        assert build.commit == await repository.git("rev-parse", "HEAD")


async def test_a_commit(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        build = await watched.built("staging", await repository.commit("second"))
        assert (build.number, build.message, build.trigger) == (2, "second", Trigger.COMMIT)


async def test_a_reset(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first", "second")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        await repository.git("reset", "-q", "--hard", "HEAD~1")
        assert (await watched.built("staging", await repository.git("rev-parse", "HEAD"))).message == "first"


async def test_checking_out_another_branch_is_followed_when_the_file_names_none(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        await repository.git("checkout", "-qb", "feature/x")
        build = await watched.built("staging", await repository.commit("on the branch"))
        assert build.branch == "feature/x"
        await repository.git("checkout", "-q", "main")
        assert (await watched.number("staging", 3)).branch == "main"


async def test_a_detached_head_is_followed_when_the_file_names_no_branch(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first", "second")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        await repository.git("checkout", "-q", "--detach", "HEAD~1")
        build = await watched.number("staging", 2)
        assert (build.branch, build.message) == (None, "first")


async def test_a_named_branch_does_not_care_what_is_checked_out(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository, 'branch = "main"\n')
        await repository.git("checkout", "-qb", "other")
        await repository.commit("elsewhere")
        await repository.git("checkout", "-q", "main")
        await watched.built("staging", await repository.commit("here"))
        assert [build.message for build in await watched.builds("staging")] == ["first", "here"]


async def test_packed_refs(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        await repository.git("pack-refs", "--all", "--prune")
        await watched.built("staging", await repository.commit("after packing"))
        await repository.commit("packed at once")
        await repository.git("pack-refs", "--all", "--prune")
        await watched.built("staging", await repository.git("rev-parse", "HEAD"))


async def test_packing_alone_builds_nothing(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        await repository.git("pack-refs", "--all")
        await repository.git("gc", "-q")
        await watched.built("staging", await repository.commit("second"))
        assert len(await watched.builds("staging")) == 2


async def test_a_push_into_a_bare_repository(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "work", "first")
    await git("clone", "-q", "--bare", repository.path, tmp_path / "shop.git")
    async with watching(tmp_path) as watched:
        await first_build(watched, Repository(tmp_path / "shop.git"))
        commit = await repository.commit("pushed")
        await repository.git("push", "-q", tmp_path / "shop.git", "main")
        assert (await watched.built("staging", commit)).branch == "main"


async def test_a_push_into_a_checkout_and_a_forced_push(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "work", "first", "second")
    await git("clone", "-q", repository.path, tmp_path / "shop")
    shop = Repository(tmp_path / "shop")
    await shop.git("config", "receive.denyCurrentBranch", "updateInstead")
    async with watching(tmp_path) as watched:
        await first_build(watched, shop)
        commit = await repository.commit("pushed")
        await repository.git("push", "-q", shop.path, "main")
        await watched.built("staging", commit)
        await repository.git("reset", "-q", "--hard", "HEAD~2")
        commit = await repository.commit("another history")
        await repository.git("push", "-qf", shop.path, "main")
        await watched.built("staging", commit)


async def test_a_linked_worktree(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("worktree", "add", "-q", "-b", "qa/next", tmp_path / "linked")
    linked = Repository(tmp_path / "linked")
    async with watching(tmp_path) as watched:
        await first_build(watched, linked)
        build = await watched.built("staging", await linked.commit("in the worktree"))
        assert build.branch == "qa/next"
        await linked.git("checkout", "-q", "--detach", "main")
        assert (await watched.number("staging", 3)).message == "first"


async def test_a_commit_in_a_linked_worktree_moves_a_named_branch(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("worktree", "add", "-q", "-b", "feature/x", tmp_path / "linked")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository, 'branch = "feature/x"\n')
        await watched.built("staging", await Repository(tmp_path / "linked").commit("there"))


async def test_a_nested_branch_that_comes_goes_and_comes_back(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        watched.write("staging", repository.path, 'branch = "feature/x"\n')
        missing = await watched.becomes("staging", lambda e: e.problem is not None)
        assert missing.problem is not None and 'has no branch "feature/x"' in missing.problem
        assert "there is main" in missing.problem
        await repository.git("branch", "feature/x")
        await watched.number("staging", 1)
        await watched.becomes("staging", lambda e: e.problem is None)
        await repository.git("branch", "-qD", "feature/x")
        await watched.becomes("staging", lambda e: e.problem is not None)
        commit = await repository.commit("second")
        await repository.git("branch", "feature/x")
        await watched.built("staging", commit)
        await watched.becomes("staging", lambda e: e.problem is None)


async def test_a_branch_that_comes_back_as_it_was_is_not_built_again(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("branch", "x")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository, 'branch = "x"\n')
        await repository.git("branch", "-qD", "x")
        await watched.becomes("staging", lambda e: e.problem is not None)
        await repository.git("branch", "x")
        await watched.becomes("staging", lambda e: e.problem is None)
        assert len(await watched.builds("staging")) == 1


async def test_a_burst_of_commits_is_one_build_of_the_last(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path, pause=0.6) as watched:
        await first_build(watched, repository)
        (tmp_path / "burst.sh").write_text(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do\n"
            '  git update-ref refs/heads/main "$(git commit-tree -p HEAD -m "burst $i" HEAD^{tree})"\n'
            "done\n"
        )
        await repository.git("-c", f"alias.burst=!sh {tmp_path}/burst.sh", "burst")
        await watched.built("staging", await repository.git("rev-parse", "HEAD"))
        assert [build.message for build in await watched.builds("staging")] == ["first", "burst 20"]


async def test_a_rebase_builds_its_end_and_not_its_steps(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("checkout", "-qb", "other")
    await repository.commit("one")
    await repository.commit("two")
    await repository.git("checkout", "-q", "main")
    await repository.git("commit", "-q", "--allow-empty", "-m", "upstream")
    await repository.git("checkout", "-q", "other")
    async with watching(tmp_path, pause=0.01) as watched:
        await first_build(watched, repository)
        (tmp_path / "slow.sh").write_text("sleep 0.3\n")
        await repository.git("rebase", "-q", "--exec", f"sh {tmp_path}/slow.sh", "main")
        build = await watched.built("staging", await repository.git("rev-parse", "HEAD"))
        assert (build.number, build.branch) == (2, "other")


async def test_a_repository_without_commits_waits_for_one(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop")
    async with watching(tmp_path) as watched:
        watched.write("staging", repository.path)
        empty = await watched.becomes("staging", lambda e: e.problem is not None)
        assert empty.problem is not None and "it is built as soon as it has one" in empty.problem
        await watched.built("staging", await repository.commit("first"))


async def test_a_repository_that_comes_later_moves_away_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "shop"
    async with watching(tmp_path) as watched:
        watched.write("staging", path)
        missing = await watched.becomes("staging", lambda e: e.problem is not None)
        assert missing.problem is not None and f"repository {path} does not exist" in missing.problem
        repository = await new_repository(path, "first")
        await watched.number("staging", 1)
        path.rename(tmp_path / "away")
        await watched.becomes("staging", lambda e: e.problem is not None)
        (tmp_path / "away").rename(path)
        await watched.becomes("staging", lambda e: e.problem is None)
        await watched.built("staging", await repository.commit("second"))
        shutil.rmtree(path)
        repository = await new_repository(path, "made anew")
        await watched.built("staging", await repository.git("rev-parse", "HEAD"))
        await watched.built("staging", await repository.commit("and on"))


@pytest.mark.parametrize("kind", ["file", "folder", "inside"])
async def test_what_is_no_repository_says_so(tmp_path: Path, kind: str) -> None:
    outer = await new_repository(tmp_path / "outer", "first")
    path = {"file": tmp_path / "shop", "folder": tmp_path / "shop", "inside": outer.path / "shop"}[kind]
    if kind == "file":
        path.write_text("")
    else:
        path.mkdir()
    cures = {"file": "is a file", "folder": "git init", "inside": f'repository = "{outer.path}" and directory = "shop"'}
    async with watching(tmp_path) as watched:
        watched.write("staging", path)
        problem = (await watched.becomes("staging", lambda e: e.problem is not None)).problem
        assert problem is not None and cures[kind] in problem


async def test_the_head_of_a_bare_repository_that_names_no_branch(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "work", "first")
    await git("init", "-q", "--bare", "-b", "master", tmp_path / "shop.git")
    await repository.git("push", "-q", tmp_path / "shop.git", "main")
    async with watching(tmp_path) as watched:
        watched.write("staging", tmp_path / "shop.git")
        problem = (await watched.becomes("staging", lambda e: e.problem is not None)).problem
        assert problem is not None and 'write branch = "main" in the file' in problem
        await git("symbolic-ref", "HEAD", "refs/heads/main", cwd=tmp_path / "shop.git")
        await watched.number("staging", 1)
