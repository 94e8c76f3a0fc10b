"""Every way a file changes in the directory of environments, with the real store."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import anyio
import pytest

from deferlite.model.environment import EnvironmentState
from deferlite.model.events import EnvironmentChanged
from deferlite.watcher.environments import check
from tests.services.watcher_fixtures import Watched, watching

pytestmark = pytest.mark.anyio
FILES = ("files",)
GOOD = 'repository = "/srv/shop"\n'


async def test_a_file_that_is_there_at_the_start_is_an_environment(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "staging.toml").write_text(GOOD)
    async with watching(tmp_path, only=FILES) as watched:
        environment = await watched.environment("staging")
        assert environment is not None and environment.config is not None
        assert environment.config.repository == "/srv/shop"
        assert environment.source == str(watched.file("staging"))


async def test_the_directory_is_made_when_it_is_missing(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").write_text(GOOD)
        await watched.becomes("staging", lambda environment: environment.config is not None)


async def test_add_edit_break_repair_remove_and_bring_back(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        file = watched.file("staging")
        file.write_text(GOOD)
        await watched.becomes("staging", lambda e: e.config is not None)
        file.write_text(GOOD + "[run]\nconcurrency = 3\n")
        await watched.becomes("staging", lambda e: e.config is not None and e.config.run.concurrency == 3)
        file.write_text(GOOD + "[run]\nconcurrency = 0\n")
        broken = await watched.becomes("staging", lambda e: e.error is not None)
        assert broken.error is not None and f"{file}, line 3: run.concurrency is 0" in broken.error
        assert broken.config is not None and broken.config.run.concurrency == 3, "last good settings stay"
        file.write_text(GOOD + "[run]\nconcurrency = 4\n")
        mended = await watched.becomes("staging", lambda e: e.error is None)
        assert mended.config is not None and mended.config.run.concurrency == 4
        file.unlink()
        await watched.becomes("staging", lambda e: e.state is EnvironmentState.RETIRED)
        file.write_text(GOOD)
        await watched.becomes("staging", lambda e: e.state is EnvironmentState.ACTIVE)


async def test_a_file_that_was_never_good_is_shown_as_broken(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").write_text("branch = main\n")
        broken = await watched.becomes("staging", lambda e: e.error is not None)
        assert broken.config is None


async def test_renaming_a_file_retires_the_old_environment_and_makes_the_new_one(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").write_text(GOOD)
        await watched.becomes("staging", lambda e: e.config is not None)
        watched.file("staging").rename(watched.file("qa"))
        await watched.becomes("qa", lambda e: e.config is not None)
        await watched.becomes("staging", lambda e: e.state is EnvironmentState.RETIRED)


async def states_seen(watched: Watched, name: str, work: list[str]) -> list[tuple[str, bool]]:
    """Every state an environment goes through while the file gets each text of ``work`` by an editor's rename."""
    seen = []
    with watched.bus.subscribe(EnvironmentChanged) as changes:
        for number, text in enumerate(work, start=2):
            backup = watched.directory / f"{name}.toml~"
            watched.file(name).rename(backup)
            (watched.directory / f".{name}.toml.swp").write_text("not TOML at all")
            (watched.directory / "4913").write_text("")
            watched.file(name).write_text(text)
            backup.unlink()
            async for _ in changes:
                environment = await watched.store.environments.get(name)
                seen.append((str(environment.state), environment.error is None))
                if environment.config is not None and environment.config.run.concurrency == number:
                    break
    return seen


async def test_an_editors_save_by_rename_neither_retires_nor_breaks(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").write_text(GOOD)
        await watched.becomes("staging", lambda e: e.config is not None)
        texts = [f"{GOOD}[run]\nconcurrency = {number}\n" for number in range(2, 7)]
        with anyio.fail_after(20):
            assert set(await states_seen(watched, "staging", texts)) == {("active", True)}


async def test_a_temporary_file_renamed_over_the_old_one(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").write_text(GOOD)
        await watched.becomes("staging", lambda e: e.config is not None)
        temporary = watched.directory / "staging.toml.tmp"
        temporary.write_text(GOOD + 'branch = "x"\n')
        temporary.replace(watched.file("staging"))
        environment = await watched.becomes("staging", lambda e: e.config is not None and e.config.branch == "x")
        assert environment.error is None


async def test_a_file_written_in_two_halves_is_not_reported_broken(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        seen: list[str | None] = []
        watched.file("staging").write_text(GOOD)
        await watched.becomes("staging", lambda e: e.config is not None)
        with watched.bus.subscribe(EnvironmentChanged) as changes, anyio.fail_after(20):
            with watched.file("staging").open("w") as file:
                file.write('repository = "/srv')
                file.flush()
                await anyio.sleep(0.06)  # How long the editor takes between the halves.
                file.write('/other"\n')
            async for _ in changes:
                environment = await watched.store.environments.get("staging")
                seen.append(environment.error)
                if environment.config is not None and environment.config.repository == "/srv/other":
                    break
        assert set(seen) == {None}


async def test_a_symlinked_file_follows_its_target_and_its_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir()
    (elsewhere / "one.conf").write_text(GOOD)
    (elsewhere / "two.conf").write_text('repository = "/srv/two"\n')
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").symlink_to(elsewhere / "one.conf")
        await watched.becomes("staging", lambda e: e.config is not None)
        (elsewhere / "one.conf").write_text('repository = "/srv/edited"\n')
        await watched.becomes("staging", lambda e: e.config is not None and e.config.repository == "/srv/edited")
        link = watched.directory / "new"
        link.symlink_to(elsewhere / "two.conf")
        link.replace(watched.file("staging"))
        await watched.becomes("staging", lambda e: e.config is not None and e.config.repository == "/srv/two")
        (elsewhere / "two.conf").unlink()
        broken = await watched.becomes("staging", lambda e: e.error is not None)
        assert broken.error is not None and "which does not exist: mend or remove the link" in broken.error
        assert broken.state is EnvironmentState.ACTIVE


async def test_a_folder_a_hidden_file_and_other_names_in_the_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("Bad_Name").write_text(GOOD)
        (watched.directory / ".hidden.toml").write_text("no")
        (watched.directory / "README.md").write_text("no")
        watched.file("folder").mkdir()
        os.mkfifo(watched.file("pipe"))
        watched.file("loop").symlink_to(watched.file("loop"))
        Path(os.fsdecode(bytes(watched.directory) + b"/caf\xe9.toml")).symlink_to("/srv")
        for name in ("pipe", "loop"):
            await watched.becomes(name, lambda e: e.error is not None)
        broken = await watched.becomes("folder", lambda e: e.error is not None)
        assert broken.error is not None and "is not a file" in broken.error
        assert str(watched.file("Bad_Name")) in watched.files.misnamed
        assert len(watched.files.misnamed) == 2
        assert "rename the file to bad-name.toml" in caplog.text
        assert [e.name for e in await watched.store.environments.list()] == ["folder", "loop", "pipe"]


async def test_what_comes_later_is_said_in_the_log_with_file_and_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "deferlite")
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").write_text(GOOD + '[notify]\nslack = "https://example.org/hook"\n')
        await watched.becomes("staging", lambda e: e.config is not None)
        assert f"{watched.file('staging')}, line 2: notify not yet: " in caplog.text


async def test_a_restart_changes_nothing_and_sees_what_happened_meanwhile(tmp_path: Path) -> None:
    async with watching(tmp_path, only=FILES) as watched:
        for name in ("kept", "edited", "removed"):
            watched.file(name).write_text(GOOD)
            await watched.becomes(name, lambda e: e.config is not None)
        before = await watched.environment("kept")
    watched.file("edited").write_text('repository = "/srv/edited"\n')
    watched.file("removed").unlink()
    async with watching(tmp_path, only=FILES) as watched:
        assert await watched.environment("kept") == before
        edited, removed = await watched.environment("edited"), await watched.environment("removed")
        assert edited is not None and edited.config is not None and edited.config.repository == "/srv/edited"
        assert removed is not None and removed.state is EnvironmentState.RETIRED


async def test_a_token_of_the_file_opens_the_environment(tmp_path: Path) -> None:
    token = "a-token-that-nobody-will-ever-guess-1"
    async with watching(tmp_path, only=FILES) as watched:
        watched.file("staging").write_text(f'{GOOD}token = "{token}"\n')
        await watched.becomes("staging", lambda e: e.config is not None)
        assert await watched.store.tokens.verify(token) == "staging"
        watched.file("qa").write_text(f'{GOOD}token = "{token}"\n')
        taken = await watched.becomes("qa", lambda e: e.error is not None)
        assert taken.error is not None and token not in taken.error


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "staging.toml").write_text(GOOD)
    monkeypatch.setattr(Path, "open", refuse)
    [parsed] = check([tmp_path])
    assert "may not be read by the server's user: give it permission" in parsed.error


async def test_a_directory_that_cannot_be_read_retires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "staging.toml").write_text(GOOD)
    async with watching(tmp_path, only=FILES):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        async with watching(tmp_path, only=FILES) as watched:
            environment = await watched.environment("staging")
            assert environment is not None and environment.state is EnvironmentState.ACTIVE
    assert "Input/output error" in caplog.text


def test_check_tells_the_faults_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text("branch = 1\n")
    (tmp_path / "Bad_Name.toml").write_text(GOOD)
    (tmp_path / "other.conf").write_text(GOOD)
    faults = {parsed.name: [fault.line for fault in parsed.faults] for parsed in check([tmp_path])}
    assert faults == {"good": [], "bad": [1, 1], "Bad_Name": [1]}
    missing, misnamed = check([tmp_path / "gone.toml", tmp_path / "other.conf"])
    assert "does not exist" in missing.error and "rename it to other.toml" in misnamed.error
