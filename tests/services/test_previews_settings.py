"""What ``[preview]`` says holds at once: patterns, limit, expiry; and its file may be edited, broken or removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from deferlite.model.clock import SECOND, ManualClock
from deferlite.model.environment import EnvironmentConfig, EnvironmentState
from deferlite.model.events import RepositoryPushed
from tests.services.preview_fixtures import all_are, ended, preview_of, previews, publish, write_base
from tests.services.watcher_fixtures import Repository, new_repository, watching

pytestmark = pytest.mark.anyio
DAY = 86400
NOW = ManualClock().now() // SECOND


async def branch_at(repository: Repository, monkeypatch: pytest.MonkeyPatch, branch: str, moment: int) -> None:
    """A branch with a commit of that moment (seconds), beside main."""
    monkeypatch.setenv("GIT_COMMITTER_DATE", f"{moment} +0000")
    await repository.git("checkout", "-qB", branch, "main")
    await repository.commit(f"on {branch}")
    await repository.git("checkout", "-q", "main")


async def test_edits_of_the_base_are_followed(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        name = (await preview_of(watched, "feature/x")).name
        write_base(watched, repository, 'branches = ["feature/*"]\ncron = true\n', '[env]\nA = "1"\n')
        await watched.becomes(name, lambda e: e.config is not None and e.config.env == {"A": "1"} and e.config.run.cron)
        await watched.number(name, 2)
        watched.file("shop").write_text("broken")
        await watched.becomes("shop", lambda e: e.error is not None)
        await repository.git("branch", "feature/y")
        environment = await preview_of(watched, "feature/y")
        assert environment.config is not None and environment.config.env == {"A": "1"}


async def test_a_pattern_that_matches_no_longer_and_matches_again(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository, 'branches = ["feature/*", "qa/*"]\n')
        await watched.number("shop", 1)
        for branch in ("feature/x", "qa/x", "Feature/y", "other"):
            await repository.git("branch", branch)
        await all_are(watched, "feature/x", "qa/x")
        write_base(watched, repository, 'branches = ["qa/?", "[Ff]eature/y"]\n')
        await all_are(watched, "qa/x", "Feature/y")
        write_base(watched, repository)
        await all_are(watched, "feature/x")
        watched.write("shop", repository.path, 'branch = "main"\n')
        await all_are(watched)
        assert {each.state for each in (await previews(watched, True)).values()} == {EnvironmentState.RETIRED}
        write_base(watched, repository)
        await all_are(watched, "feature/x")


async def test_previews_go_with_their_base_and_come_back_with_it(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        name = (await preview_of(watched, "feature/x")).name
        text = watched.file("shop").read_text()
        watched.file("shop").unlink()
        assert (await ended(watched, "feature/x")).ended == "unwanted"
        watched.file("shop").write_text(text)
        assert (await preview_of(watched, "feature/x")).name == name
        watched.file("shop").unlink()
        await all_are(watched)
    async with watching(tmp_path) as watched:
        assert await previews(watched) == {}


async def test_a_base_that_lost_its_previews_while_the_server_was_away(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        await preview_of(watched, "feature/x")
    repository.path.rename(tmp_path / "elsewhere")
    watched.write("shop", repository.path, 'branch = "main"\n')
    async with watching(tmp_path) as watched:
        await all_are(watched)


async def test_a_repository_that_cannot_be_read_retires_nothing(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        name = (await preview_of(watched, "feature/x")).name
        repository.path.rename(tmp_path / "elsewhere")
        await watched.becomes("shop", lambda e: e.problem is not None)
        await watched.becomes(name, lambda e: e.problem is not None)
        (tmp_path / "elsewhere").rename(repository.path)
        await watched.becomes(name, lambda e: e.problem is None)
        assert set(await previews(watched)) == {"feature/x"}
        assert len(await watched.builds(name)) == 1


async def test_the_newest_branches_get_the_places_and_the_others_the_next_free_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    for place, branch in enumerate(("feature/a", "feature/d", "feature/b", "feature/c")):
        await branch_at(repository, monkeypatch, branch, NOW - DAY + place)
    async with watching(tmp_path, ManualClock()) as watched:
        write_base(watched, repository, 'branches = ["feature/*"]\nlimit = 2\n')
        await all_are(watched, "feature/b", "feature/c")
        base = await watched.becomes("shop", lambda e: e.note is not None)
        assert base.note == "[preview] limit = 2 leaves no place for 2 more: feature/d, feature/a"
        assert caplog.text.count("leaves no place") == 1
        await branch_at(repository, monkeypatch, "feature/e", NOW)
        await watched.becomes("shop", lambda e: e.note is not None and "3 more: feature/e" in e.note)
        assert set(await previews(watched)) == {"feature/b", "feature/c"}
        await repository.git("branch", "-D", "feature/b")
        await all_are(watched, "feature/c", "feature/e")
        write_base(watched, repository, 'branches = ["feature/*"]\nlimit = 1\n')
        await all_are(watched, "feature/e")
        assert (await ended(watched, "feature/c")).ended == "limit"
        write_base(watched, repository, 'branches = ["feature/*"]\nlimit = 9\n')
        await all_are(watched, "feature/a", "feature/c", "feature/d", "feature/e")
        await watched.becomes("shop", lambda e: e.note is None)


async def test_a_preview_expires_and_comes_back_with_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_COMMITTER_DATE", f"{NOW - 9 * DAY} +0000")
    repository = await new_repository(tmp_path / "shop", "first")
    await branch_at(repository, monkeypatch, "feature/old", NOW - 3 * DAY)
    await branch_at(repository, monkeypatch, "feature/used", NOW - DAY)
    clock = ManualClock()
    async with watching(tmp_path, clock) as watched:
        write_base(watched, repository, 'branches = ["feature/*"]\nexpire = "2d"\n')
        await all_are(watched, "feature/used")
        await watched.number("shop--feature-used", 1)
        await repository.git("branch", "feature/from-the-past", "main")
        await all_are(watched, "feature/used", "feature/from-the-past")
        await watched.number("shop--feature-from-the-past", 1)
        clock.advance(1.5 * DAY)
        await branch_at(repository, monkeypatch, "feature/used", NOW + DAY)
        await watched.number("shop--feature-used", 2)
        clock.advance(0.6 * DAY)
        await all_are(watched, "feature/used")
        assert (await ended(watched, "feature/from-the-past")).ended == "expired"
        clock.advance(2 * DAY)
        await all_are(watched)
    async with watching(tmp_path, clock) as watched:
        await branch_at(repository, monkeypatch, "feature/marker", int(clock.now() // SECOND))
        await all_are(watched, "feature/marker")
        await branch_at(repository, monkeypatch, "feature/used", int(clock.now() // SECOND))
        await all_are(watched, "feature/marker", "feature/used")


async def test_branches_that_look_alike_have_names_of_their_own_and_keep_them(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    for branch in ("f/a", "f-a", "F/a", "f/a_", "ünïcode", "x" * 200):
        await repository.git("branch", branch)
    async with watching(tmp_path) as watched:
        write_base(watched, repository, 'branches = ["*"]\n')
        await all_are(watched, "f/a", "f-a", "F/a", "f/a_", "ünïcode", "x" * 200)
        names = {branch: each.name for branch, each in (await previews(watched)).items()}
        assert len(set(names.values())) == 6
    async with watching(tmp_path) as watched:
        await repository.git("branch", "-D", "f/a", "f-a")
        await all_are(watched, "F/a", "f/a_", "ünïcode", "x" * 200)
        await repository.git("branch", "f-a")
        await repository.git("branch", "f/a")
        for branch, name in names.items():
            assert (await preview_of(watched, branch)).name == name


async def test_a_file_wins_the_name_of_a_preview(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        assert (await preview_of(watched, "feature/x")).name == "shop--feature-x"
        watched.write("shop--feature-x", repository.path, 'branch = "main"\n')
        await watched.becomes("shop--feature-x", lambda e: e.preview is None)
        other = await preview_of(watched, "feature/x")
        assert other.name.startswith("shop--feature-x-")
        await watched.number("shop--feature-x", 2)
        watched.file("shop--feature-x").unlink()
        await watched.becomes("shop--feature-x", lambda e: e.state is EnvironmentState.RETIRED)
        assert (await preview_of(watched, "feature/x")).name == other.name


async def test_two_bases_of_one_repository_have_previews_of_their_own(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        for base in ("a", "a--feature"):
            watched.write(base, repository.path, 'branch = "main"\n[preview]\nbranches = ["feature/*"]\n')
            await watched.number(base, 1)
        await repository.git("branch", "feature/x")
        for name in ("a--feature-x", "a--feature--feature-x"):
            await watched.number(name, 1)
        watched.file("a").unlink()
        await watched.becomes("a--feature-x", lambda e: e.state is EnvironmentState.RETIRED)
        await repository.git("branch", "feature/y")
        await watched.number("a--feature--feature-y", 1)


async def test_previews_of_a_remote_repository(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    clock = ManualClock()
    async with watching(tmp_path, clock) as watched:
        more = 'branch = "main"\npoll = "1h"\n[preview]\nbranches = ["feature/*"]\n'
        watched.write("shop", f"file://{repository.path}", more)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        clock.advance(3601)
        name = (await preview_of(watched, "feature/x")).name
        await watched.number(name, 1)
        await repository.git("branch", "feature/y")
        watched.bus.publish(RepositoryPushed(environment=name))
        await all_are(watched, "feature/x", "feature/y")
        await repository.git("checkout", "-q", "feature/x")
        commit = await repository.commit("on the branch")
        watched.bus.publish(RepositoryPushed(environment="shop"))
        await watched.built(name, commit)
        await repository.git("checkout", "-q", "main")
        await repository.git("branch", "-D", "feature/x")
        watched.bus.publish(RepositoryPushed(environment="shop"))
        await all_are(watched, "feature/y")


async def test_a_remote_branch_is_merged_as_far_as_this_machine_knows(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    mirror = tmp_path / "mirror.git"
    await repository.git("clone", "-q", "--mirror", repository.path, mirror)

    async def history(config: EnvironmentConfig) -> Path:
        return mirror

    async with watching(tmp_path, history=history) as watched:
        more = 'branch = "main"\npoll = "1h"\n[preview]\nbranches = ["feature/*"]\n'
        watched.write("shop", f"file://{repository.path}", more)
        await watched.number("shop", 1)
        await repository.git("checkout", "-qb", "feature/x")
        await repository.commit("on the branch")
        watched.bus.publish(RepositoryPushed(environment="shop"))
        name = (await preview_of(watched, "feature/x")).name
        build = await watched.number(name, 1)
        await repository.git("-C", mirror, "fetch", "-q")
        await publish(watched, build)
        await watched.becomes(name, lambda e: e.preview is not None and e.preview.ahead)
        await repository.git("checkout", "-q", "main")
        await repository.git("merge", "-q", "feature/x")
        watched.bus.publish(RepositoryPushed(environment=name))
        assert (await ended(watched, "feature/x")).ended == "merged"
