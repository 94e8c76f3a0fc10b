"""Local repositories, as builds fetch them: of every kind, shallow, partial, locked, damaged, with Git LFS."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anyio
import pytest

from deferlite.builder.sources import tree as commit_tree
from deferlite.model.errors import BuildError
from deferlite.sandbox import git
from deferlite.sandbox.git import open_checkout
from deferlite.sandbox.refs import local_refs
from tests.services.git_fixtures import Fetched, files_of
from tests.services.watcher_fixtures import Repository, new_repository
from tests.services.watcher_fixtures import git as run_git

pytestmark = pytest.mark.anyio


@pytest.fixture
def fetched(tmp_path: Path) -> Fetched:
    return Fetched(tmp_path)


async def head(repository: Repository) -> str:
    return await repository.git("rev-parse", "HEAD")


async def test_a_checkout_a_bare_one_and_linked_worktrees_of_both(tmp_path: Path, fetched: Fetched) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    await run_git("clone", "-q", "--bare", shop.path, tmp_path / "bare.git")
    await shop.git("worktree", "add", "-q", tmp_path / "linked")
    await run_git("worktree", "add", "-q", tmp_path / "of-bare", "-b", "other", cwd=tmp_path / "bare.git")
    (tmp_path / "with: colon").symlink_to(shop.path)
    for name in ("shop", "bare.git", "linked", "of-bare", "with: colon"):
        tree = await fetched.fetch(tmp_path / name, await head(shop))
        assert files_of(tree) == {"file1.py": "first"}, name
        assert "main" in (await local_refs(await open_checkout(tmp_path / name))).heads
    linked = Repository(tmp_path / "of-bare")
    commit = await linked.commit("in the worktree of a bare one")
    refs = await local_refs(await open_checkout(linked.path))
    assert (refs.head, refs.heads["other"].commit) == ("other", commit)


async def test_a_shallow_clone(tmp_path: Path, fetched: Fetched) -> None:
    shop = await new_repository(tmp_path / "shop", "first", "second")
    await run_git("clone", "-q", "--depth=1", f"file://{shop.path}", tmp_path / "shallow")
    assert len(files_of(await fetched.fetch(tmp_path / "shallow", await head(shop)))) == 2
    with pytest.raises(BuildError, match="was the branch moved and the commit removed"):
        await fetched.fetch(tmp_path / "shallow", await shop.git("rev-parse", "HEAD~1"))


@pytest.mark.parametrize("filtered", ["blob:none", "tree:0"])
async def test_a_partial_clone_names_the_cure_and_the_cure_helps(
    tmp_path: Path, fetched: Fetched, filtered: str
) -> None:
    shop = await new_repository(tmp_path / "shop", "first", "second")
    await shop.git("config", "uploadpack.allowFilter", "true")
    partial = tmp_path / "partial"
    await run_git("clone", "-q", "--no-checkout", f"--filter={filtered}", f"file://{shop.path}", partial)
    with pytest.raises(BuildError, match="is a partial clone") as error:
        await fetched.fetch(partial, await head(shop))
    cure = f"git -C {partial} fetch --refetch --no-filter"
    assert cure in str(error.value)
    await run_git(*cure.split()[1:])
    assert len(files_of(await fetched.fetch(partial, await head(shop)))) == 2


async def test_locks_of_others_do_not_matter(tmp_path: Path, fetched: Fetched) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    for name in ("index.lock", "packed-refs.lock", "HEAD.lock", "config.lock", "refs/heads/main.lock"):
        (shop.path / ".git" / name).touch()
    commit = (await local_refs(await open_checkout(shop.path))).heads["main"].commit
    await fetched.fetch(shop.path, commit)
    await fetched.fetch(shop.path, None, worktree=True)


async def test_a_damaged_an_emptied_and_a_removed_repository(
    tmp_path: Path, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    commit, blob = await head(shop), await shop.git("rev-parse", "HEAD:file1.py")
    kept = shop.path / ".git" / "objects" / blob[:2] / blob[2:]
    kept.chmod(0o600)
    kept.write_bytes(b"nonsense")
    with pytest.raises(BuildError, match=r"damaged: git -C .* fsck"):
        await fetched.fetch(shop.path, commit)
    (shop.path / ".git" / "HEAD").unlink()
    with pytest.raises(BuildError, match="is not a git repository"):
        await fetched.fetch(shop.path, commit)
    empty = await new_repository(tmp_path / "empty")
    with pytest.raises(BuildError, match="was the branch moved"):
        await fetched.fetch(empty.path, commit)
    going = await new_repository(tmp_path / "going", "first")
    commit, tree_of = await head(going), commit_tree.tree_of

    async def and_it_moves(*args):
        await anyio.Path(going.path).rename(tmp_path / "gone")
        return await tree_of(*args)

    monkeypatch.setattr("deferlite.builder.sources.fetch.tree_of", and_it_moves)
    with pytest.raises(BuildError, match="not there any more: it was moved or removed"):
        await fetched.fetch(going.path, commit)


async def test_a_missing_commit_of_one_branch_does_not_hide_the_others(tmp_path: Path) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    (shop.path / ".git" / "refs" / "heads" / "broken").write_text("1" * 40 + "\n")
    refs = await local_refs(await open_checkout(shop.path))
    assert (refs.heads["main"].commit, refs.head) == (await head(shop), "main")


async def test_files_of_git_lfs(tmp_path: Path, fetched: Fetched) -> None:
    shop = await new_repository(tmp_path / "shop")
    contents = {"there.bin": b"\0content" * 1000, "away.bin": b"other", "wrong.bin": b"third"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (shop.path / "model").mkdir()
    for name, digest in digests.items():
        (shop.path / "model" / name).write_text(
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(contents[name])}\n"
        )
    (shop.path / ".gitattributes").write_text("[attr]large filter=lfs diff=lfs -text\nmodel/* large\n")
    commit = await shop.commit()
    for name, content in {"there.bin": contents["there.bin"], "wrong.bin": b"not it"}.items():
        kept = shop.path / ".git" / "lfs" / "objects" / digests[name][:2] / digests[name][2:4] / digests[name]
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)
    tree = await fetched.fetch(shop.path, commit)
    assert (tree / "model" / "there.bin").read_bytes() == contents["there.bin"]
    assert "copies: 1 file kept by Git LFS" in fetched.said
    assert "files kept by Git LFS are pointers: model/away.bin, model/wrong.bin (2)" in fetched.said
    assert sorted(path.name for path in (tree / "model").iterdir()) == sorted(contents)
    await fetched.fetch(f"file://{shop.path}", commit)
    assert "are pointers: model/away.bin, model/there.bin, model/wrong.bin (3)" in fetched.said
    await fetched.fetch(shop.path, None, worktree=True)
    assert "(3)" in fetched.said


async def test_a_hundred_branches_are_read_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await new_repository(tmp_path / "shop", "a subject of two  words")
    commit = await head(shop)
    for number in range(100):
        await shop.git("update-ref", f"refs/heads/feature/{number}", commit)
    (shop.path / ".git" / "refs" / "heads" / "tag").write_text(await shop.git("hash-object", "-w", "file1.py"))
    checkout, calls = await open_checkout(shop.path), []
    monkeypatch.setattr("deferlite.sandbox.refs.git", counted(git.git, calls))
    refs = await local_refs(checkout)
    assert len(calls) == 1 and len(refs.heads) == 101 and refs.head == "main"
    assert refs.heads["feature/7"].subject == "a subject of two  words"
    assert refs.heads["main"].committed_at == int(await shop.git("log", "-1", "--format=%ct")) * 1_000_000
    await shop.git("checkout", "-q", "--detach")
    assert (refs := await local_refs(checkout)).detached is not None
    assert (refs.head, refs.detached.commit if refs.detached else "") == (None, commit)
    await shop.git("checkout", "-q", "--orphan", "unborn")
    assert (await local_refs(checkout)).head == "unborn"


def counted(function, calls):
    async def counting(*args, **options):
        calls.append(args)
        return await function(*args, **options)

    return counting


async def test_many_files(tmp_path: Path, fetched: Fetched) -> None:
    shop = await new_repository(tmp_path / "shop")
    for number in range(2000):
        (shop.path / f"f{number}.py").write_text(str(number))
    commit = await shop.commit()
    with anyio.fail_after(10):
        assert len(files_of(await fetched.fetch(shop.path, commit))) == 2001
