"""What deferlite asks git, against real repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from deferlite.model.errors import WorldError
from deferlite.sandbox import git
from deferlite.sandbox.refs import Tip, local_refs, remote_refs, tip_of
from tests.services.watcher_fixtures import new_repository

pytestmark = pytest.mark.anyio


async def local_tip(checkout: git.Checkout, branch: str | None) -> Tip:
    return tip_of(await local_refs(checkout), branch, str(checkout.path))


async def remote_tip(address: str, branch: str | None) -> Tip:
    return tip_of(await remote_refs(address, None), branch, address)


async def test_a_checkout_a_bare_repository_and_a_linked_worktree(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("clone", "-q", "--bare", ".", tmp_path / "bare.git")
    await repository.git("worktree", "add", "-q", tmp_path / "linked")
    shop = await git.open_checkout(tmp_path / "shop")
    assert (shop.top, shop.git_dir, shop.common_dir) == (shop.path, shop.path / ".git", shop.path / ".git")
    bare = await git.open_checkout(tmp_path / "bare.git")
    assert (bare.top, bare.git_dir) == (None, tmp_path / "bare.git")
    linked = await git.open_checkout(tmp_path / "linked")
    assert linked.common_dir == shop.git_dir
    assert linked.git_dir == shop.git_dir / "worktrees" / "linked"


async def test_tips_of_local_and_remote_branches_are_the_same(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first: a subject")
    await repository.git("checkout", "-qb", "feature/ünï")
    await repository.commit("second")
    checkout = await git.open_checkout(repository.path)
    for branch in ("main", "feature/ünï", None):
        local = await local_tip(checkout, branch)
        remote = await remote_tip(f"file://{repository.path}", branch)
        assert (local.commit, local.branch) == (remote.commit, remote.branch)
    assert (await local_tip(checkout, "main")).subject == "first: a subject"
    await repository.git("checkout", "-q", "--detach")
    assert (await local_tip(checkout, None)).branch is None
    assert (await remote_tip(f"file://{repository.path}", None)).branch is None


@pytest.mark.parametrize("branch", ["mian", "feature/y", "nothing-like-it"])
async def test_a_missing_branch_names_those_that_are_near(tmp_path: Path, branch: str) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("branch", "feature/x")
    checkout = await git.open_checkout(repository.path)
    with pytest.raises(git.RepositoryError, match=f'has no branch "{branch}": mend branch in the file') as local:
        await local_tip(checkout, branch)
    with pytest.raises(git.RepositoryError) as remote:
        await remote_tip(f"file://{repository.path}", branch)
    near = {
        "mian": "there is main)",
        "feature/y": "there is feature/x)",
        "nothing-like-it": "there are feature/x, main)",
    }
    assert str(local.value).endswith(near[branch]) and str(remote.value).endswith(near[branch])


async def test_a_password_in_an_address_is_never_told(tmp_path: Path) -> None:
    with pytest.raises(WorldError) as error:
        await remote_tip("http://me:hunter2@127.0.0.1:1/shop.git", None)
    assert "hunter2" not in str(error.value)
    assert "127.0.0.1:1/shop.git" in str(error.value)


async def test_an_address_cannot_be_an_option_or_a_command(tmp_path: Path) -> None:
    for address in (f"--upload-pack=touch {tmp_path}/sprung", f"ext::touch {tmp_path}/sprung"):
        with pytest.raises(WorldError):
            await remote_tip(address, None)
    assert not (tmp_path / "sprung").exists()


async def test_the_servers_own_git_variables_stay_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    assert (await git.open_checkout(repository.path)).git_dir == repository.path / ".git"
    assert "BatchMode=yes" in git.environment()["GIT_SSH_COMMAND"]


async def test_every_file_that_git_does_not_ignore_whatever_its_name(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    names = {f"{'long' * 20}{number}.py" for number in range(2000)}
    names |= {'quo"ted.py', "back\\slash.py", "new\nline.py", "tab\t.py", "ünï.py", " spaces .py", ".gitignore", "\x01"}
    for name in names:
        (repository.path / name).write_text("ignored.py\n")
    (repository.path / "ignored.py").write_text("")
    (repository.path / "empty" / "inner").mkdir(parents=True)
    assert set((await git.worktree_files(repository.path)).names) == {*names, "file1.py"}
    assert await git.untracked_folders(repository.path) == ["empty/"]
