"""Repositories whose owner wishes the server ill, or has strange taste: nothing outside of them is touched."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import anyio.to_thread
import pytest

from deferlite.builder.sources import history_of, resolve_commit
from deferlite.builder.sources.copy import copy_files
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import BuildError
from deferlite.sandbox import git
from deferlite.sandbox.refs import commits_between, is_ancestor, local_refs, remote_refs, tip_of
from tests.services.git_fixtures import Fetched, git_daemon
from tests.services.watcher_fixtures import Repository, new_repository, watching

pytestmark = pytest.mark.anyio


async def copied(top: Path, names: list[str], destination: Path) -> int:
    return await anyio.to_thread.run_sync(copy_files, top, names, destination)


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
    names = (await git.worktree_files(repository.path)).names
    assert "x/admin.token" in names
    await copied(repository.path, names, tmp_path / "copy")
    assert not [path for path in (tmp_path / "copy").rglob("*") if path.name == "admin.token"]


async def test_a_worktree_is_not_left_by_dots(tmp_path: Path) -> None:
    (tmp_path / "shop" / "a").mkdir(parents=True)
    (tmp_path / "admin.token").write_text("secret")
    names = ["../admin.token", "a/../../admin.token", str(tmp_path / "admin.token")]
    assert await copied(tmp_path / "shop", names, tmp_path / "builds" / "copy") == 0
    assert [path.name for path in (tmp_path / "builds").rglob("*")] == ["copy"]


async def test_a_copy_keeps_links_modes_and_times(tmp_path: Path) -> None:
    top, copy = tmp_path / "shop", tmp_path / "copy"
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "run").write_text("#!/bin/sh\n")
    (top / "bin" / "run").chmod(0o755)
    (top / "link").symlink_to("bin/run")
    assert await copied(top, ["bin/run", "link", "gone", "bin"], copy) == 2
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
    tip = tip_of(await local_refs(await git.open_checkout(repository.path)), followed, "shop")
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


PROGRAMS = """
[core]
    fsmonitor = {run}
    sshCommand = {run}
    gitProxy = {run}
    askPass = {run}
    pager = {run}
    editor = {run}
    alternateRefsCommand = {run}
    hooksPath = {hooks}
    attributesFile = {attributes}
[filter "evil"]
    clean = {run}
    smudge = {run}
    process = {run}
    required = true
[diff]
    external = {run}
[diff "evil"]
    textconv = {run}
    command = {run}
[credential]
    helper = {run}
[uploadpack]
    packObjectsHook = {run}
[log]
    showSignature = true
[gpg]
    program = {run}
[gpg "ssh"]
    program = {run}
[alias]
    ls-files = !{run}
    for-each-ref = !{run}
    rev-list = !{run}
[pager]
    ls-files = {run}
    for-each-ref = {run}
    rev-list = {run}
[trailer "evil"]
    command = {run}
[url "ext::{run}"]
    insteadOf = /
    insteadOf = file://
    insteadOf = git://
[remote "origin"]
    url = {repository}
    uploadpack = {run}
    vcs = evil
"""
PARTIAL = """
[core]
    repositoryFormatVersion = 1
[extensions]
    partialClone = origin
[remote "origin"]
    url = {repository}
    uploadpack = {run}
    promisor = true
"""
HOOKS = ("post-checkout", "post-index-change", "fsmonitor-watchman", "reference-transaction", "pre-auto-gc")


async def armed(repository: Repository, sprung: Path) -> None:
    """Have everything in the repository that names a program name one that leaves ``sprung`` behind."""
    hooks = repository.path / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    run = hooks / "run"
    run.write_text(f"#!/bin/sh\ntouch {sprung}\ncat\n")
    run.chmod(0o755)
    for name in HOOKS:
        (hooks / name).symlink_to(run)
    attributes = hooks / "attributes"
    attributes.write_text("* filter=evil diff=evil\n")
    (repository.path / ".git" / "info").mkdir(exist_ok=True)
    (repository.path / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil\n")
    text = PROGRAMS.format(run=run, hooks=hooks, attributes=attributes, repository=repository.path)
    (hooks / "config").write_text(text)
    config = repository.path / ".git" / "config"
    config.write_text(f"{config.read_text()}\n{text}\n[include]\n    path = {hooks / 'config'}\n")


async def a_signed_commit(repository: Repository) -> str:
    """Something for gpg.program, the filters and the attributes of the tree to work on."""
    (repository.path / ".gitattributes").write_text("*.py filter=evil diff=evil\n")
    commit = await repository.commit("first")
    raw = await repository.git("cat-file", "commit", commit)
    head, _, message = raw.partition("\n\n")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"
    (repository.path / ".git" / "signed").write_text(f"{head}\n{signature}\n\n{message}\n")
    signed = await repository.git("hash-object", "-t", "commit", "-w", ".git/signed")
    await repository.git("update-ref", "refs/heads/main", signed)
    return signed


async def sprang(repository: Repository, sprung: Path, *command: str) -> None:
    """Plain git does run what the repository names."""
    with suppress(subprocess.CalledProcessError):
        await repository.git(*command)
    assert sprung.exists()


async def test_no_program_that_a_repository_names_is_run(tmp_path: Path) -> None:
    """Reading refs, listing and copying files, fetching, asking for history: of it, its submodule, and by git://."""
    sprung, fetched = tmp_path / "sprung", Fetched(tmp_path)
    inner = await new_repository(tmp_path / "served" / "inner", "inner")
    shop = await new_repository(tmp_path / "served" / "shop")
    await shop.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.path, "inner")
    first = await a_signed_commit(shop)
    second = await shop.commit("second")
    await armed(shop, sprung)
    await armed(inner, sprung)
    module = Repository(tmp_path / "module")
    module.path.mkdir()
    (module.path / ".git").symlink_to(shop.path / ".git" / "modules" / "inner")
    await armed(module, sprung)

    checkout = await git.open_checkout(shop.path)
    assert (await local_refs(checkout)).heads["main"].commit == second
    assert "inner/file1.py" in (await git.worktree_files(shop.path)).names
    await git.untracked_folders(shop.path)
    assert len((await commits_between(checkout.common_dir, first, second))[0]) == 1
    assert await is_ancestor(checkout.common_dir, first, second)
    config = EnvironmentConfig(repository=str(shop.path))
    assert await resolve_commit(fetched.layout, config, "main~1") == first
    assert await history_of(fetched.layout, config) == checkout.common_dir
    for commit in (first, second):
        assert (await fetched.fetch(shop.path, commit) / "inner" / "file1.py").read_text() == "inner"
    await fetched.fetch(shop.path, None, worktree=True)
    with git_daemon(tmp_path / "served") as address:
        assert (await remote_refs(f"{address}/shop", None)).heads["main"].commit == second
        await fetched.fetch(f"{address}/shop", second, submodules=False)
    await fetched.fetch(f"file://{shop.path}", first, submodules=False)
    assert not sprung.exists()
    await sprang(shop, sprung, "status")


async def test_what_is_missing_of_a_partial_clone_is_not_fetched_by_its_own_programs(tmp_path: Path) -> None:
    sprung, fetched = tmp_path / "sprung", Fetched(tmp_path)
    shop = await new_repository(tmp_path / "shop")
    commit = await a_signed_commit(shop)
    blob = await shop.git("rev-parse", "HEAD:file1.py")
    (shop.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    run = tmp_path / "run"
    run.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    run.chmod(0o755)
    with (shop.path / ".git" / "config").open("a") as config_file:
        config_file.write(PARTIAL.format(run=run, repository=tmp_path))
    with pytest.raises(BuildError, match="is a partial clone"):
        await fetched.fetch(shop.path, commit)
    config = EnvironmentConfig(repository=str(shop.path))
    for text in ("1" * 40, f"{commit}:file1.py"):
        with pytest.raises(BuildError, match="has no commit"):
            await resolve_commit(fetched.layout, config, text)
    git_dir = shop.path / ".git"
    assert await commits_between(git_dir, "1" * 40, commit) == ((), 0)
    assert await is_ancestor(git_dir, "1" * 40, commit) is None
    (git_dir / "refs" / "heads" / "gone").write_text("1" * 40 + "\n")
    assert "main" in (await local_refs(await git.open_checkout(shop.path))).heads
    assert not sprung.exists()
    await sprang(shop, sprung, "cat-file", "-p", blob)
