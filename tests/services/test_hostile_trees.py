"""Trees that change while they are read, that have no end, or that are no good for anybody."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from deferlite.builder.sources import copy as copying
from deferlite.builder.sources.copy import copy_files
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox import git, process
from deferlite.sandbox.files import LARGEST_SECRET, secret_text
from deferlite.sandbox.refs import commits_between, local_refs
from deferlite.sandbox.removal import remove
from tests.services.builder_fixtures import job, workshop
from tests.services.git_fixtures import Fetched, files_of
from tests.services.watcher_fixtures import Repository, new_repository

pytestmark = pytest.mark.anyio
DEEP = "a/" * 1500


async def copied(top: Path, names: list[str], destination: Path) -> int:
    return await anyio.to_thread.run_sync(copy_files, top, names, destination)


@pytest.mark.parametrize("inner", ["file", "link"])
async def test_a_link_that_becomes_a_folder_while_it_is_copied_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    top, outside = tmp_path / "shop", tmp_path / "outside"
    top.mkdir()
    outside.mkdir()
    (top / "a").symlink_to(outside)
    one = copying._copy_file

    def and_change(*arguments: int) -> bool:
        done = one(*arguments)
        if (top / "a").is_symlink():
            (top / "a").unlink()
            (top / "a").mkdir()
            (top / "a" / "evil").symlink_to("x") if inner == "link" else (top / "a" / "evil").write_text("x")
        return done

    monkeypatch.setattr(copying, "_copy_file", and_change)
    assert await copied(top, ["a", "a/evil"], tmp_path / "copy") == 1
    assert not list(outside.iterdir())


async def test_holes_of_a_file_stay_holes(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    with (tmp_path / "shop" / "huge").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 40)
        file.write(b"middle")
        file.truncate(2 << 40)
    (tmp_path / "shop" / "empty").touch()
    assert await copied(tmp_path / "shop", ["huge", "empty"], tmp_path / "copy") == 2
    with (tmp_path / "copy" / "huge").open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(1 << 40)
        assert file.read(7) == b"middle\0"
        assert file.seek(0, os.SEEK_END) == 2 << 40


async def test_a_copy_without_end_is_ended(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    began = time.monotonic()
    with anyio.move_on_after(0.1):
        await copied(tmp_path / "shop", ["gone"] * 10_000_000, tmp_path / "copy")
    assert time.monotonic() - began < 5


async def test_names_that_are_no_text_are_copied(tmp_path: Path) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    name = os.fsdecode(b"caf\xe9.txt")
    (shop.path / name).write_text("latin")
    tree = await Fetched(tmp_path).fetch(shop.path, None, worktree=True)
    assert (tree / name).read_text() == "latin"


async def test_a_submodule_that_is_not_checked_out_is_told(tmp_path: Path) -> None:
    inner = await new_repository(tmp_path / "inner", "inner")
    outer = await new_repository(tmp_path / "outer", "outer")
    await outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.path, "libs/inner")
    await outer.commit()
    await outer.git("submodule", "--quiet", "deinit", "--force", "libs/inner")
    fetched = Fetched(tmp_path)
    await fetched.fetch(outer.path, None, worktree=True)
    assert "submodules that are not checked out are left out: libs/inner: git submodule update" in fetched.said
    await fetched.fetch(outer.path, None, worktree=True, submodules=False)
    assert "left out" not in fetched.said


async def deep_commit(shop: Repository) -> str:
    blob = await shop.git("hash-object", "-w", "file1.py")
    await shop.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{DEEP}x.py")
    await shop.git("commit", "-qm", "deep")
    return await shop.git("rev-parse", "HEAD")


async def test_folders_nested_without_end_fail_their_build_and_no_other(tmp_path: Path) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    commit = await deep_commit(shop)
    async with workshop(tmp_path) as shop_floor, shop_floor.at_work():
        await shop_floor.environment(str(shop.path))
        deep = await shop_floor.ended(await shop_floor.request(commit))
        assert deep.error is not None and "nested hundreds deep" in deep.error
        assert not await anyio.Path(shop_floor.folder(deep).path).exists()
        good = shop_floor.repository({"jobs.py": job()}, "good")
        assert (await shop_floor.build(good, "good")).live


def test_folders_nested_without_end_are_removed(tmp_path: Path) -> None:
    """As a command in the box can make them: read-only too, and with a link that leads out."""
    (tmp_path / "outside").mkdir(mode=0o755)
    (tmp_path / "outside" / "kept").touch()
    top = tmp_path / "top"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("a", dir_fd=folder)
        os.symlink(tmp_path / "outside", "b", dir_fd=folder)
        inner = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.fchmod(folder, 0)
        os.close(folder)
        folder = inner
    os.close(folder)
    remove(top)
    assert not top.exists() and (tmp_path / "outside" / "kept").exists()
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o755
    for path in (tmp_path / "outside" / "kept", tmp_path / "nothing"):
        remove(path)
        assert not path.exists()


async def test_a_large_file_is_placed_whatever_else_the_tree_holds(tmp_path: Path) -> None:
    content = b"large" * 1000
    digest = hashlib.sha256(content).hexdigest()
    shop = await new_repository(tmp_path / "shop")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
    (shop.path / ".gitattributes").write_text("*.bin filter=lfs\n")
    (shop.path / "good.bin").write_text(pointer.format(digest, len(content)))
    (shop.path / "longer.bin").write_text(pointer.format(digest, len(content) + 1))
    (shop.path / f".{digest}.partial").mkdir()
    (shop.path / f".{digest}.partial" / "x").touch()
    kept = shop.path / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    fetched = Fetched(tmp_path)
    tree = await fetched.fetch(shop.path, await shop.commit())
    assert files_of(tree)["good.bin"].encode() == content
    assert "are pointers: longer.bin (1)" in fetched.said
    assert {path.name for path in tree.iterdir()} >= {"good.bin", "longer.bin", f".{digest}.partial"}


async def many_branches(shop: Repository, message: str, count: int) -> git.Checkout:
    (shop.path / ".git" / "message").write_text(message)
    tree = await shop.git("rev-parse", "HEAD^{tree}")
    commit = await shop.git("commit-tree", "-F", ".git/message", tree)
    packed = "".join(f"{commit} refs/heads/f/{number:06}\n" for number in range(count))
    (shop.path / ".git" / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted\n" + packed)
    return await git.open_checkout(shop.path)


async def test_fifty_thousand_branches(tmp_path: Path) -> None:
    """The test's own watch on the loop says whether it was held up."""
    checkout = await many_branches(await new_repository(tmp_path / "shop", "first"), "one of many " * 20, 50_000)
    refs = await local_refs(checkout)
    assert len(refs.heads) == 50_001 and refs.head == "main"


async def test_subjects_without_end_do_not_hide_the_branches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LARGEST_OUTPUT", 1_000_000)
    checkout = await many_branches(await new_repository(tmp_path / "shop", "first"), "x" * 100_000, 100)
    refs = await local_refs(checkout)
    assert len(refs.heads) == 101 and refs.head == "main"
    with pytest.raises(WorldError, match="git printed more than 0 MiB"):
        await git.git("for-each-ref", "--format=%(subject)", cwd=checkout.path)


@pytest.mark.parametrize("when", ["0", "99999999999999", "18446744073709551615"])
async def test_commits_of_any_time(tmp_path: Path, when: str) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    first = await shop.git("rev-parse", "HEAD")
    head, _, _ = (await shop.git("cat-file", "commit", first)).partition("\ncommitter ")
    tree, author = head.split("\n")
    text = f"{tree}\nparent {first}\n{author}\ncommitter A <a@example.org> {when} +0000\n\nstrange\n"
    (shop.path / ".git" / "raw").write_text(text)
    strange = await shop.git("hash-object", "-t", "commit", "--literally", "-w", ".git/raw")
    await shop.git("update-ref", "refs/heads/main", strange)
    (commit,), _ = await commits_between(shop.path / ".git", first, strange)
    assert 0 <= commit.at <= 253_402_300_799_000_000
    assert (await local_refs(await git.open_checkout(shop.path))).heads["main"].commit == strange


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("pipe", "it is not a plain file"),
        ("folder", "it is not a plain file"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"a\0b", "it holds a NUL character"),
        (b"x" * (LARGEST_SECRET + 1), "it holds more than 120 KiB"),
    ],
)
def test_a_file_of_a_secret_that_is_none(tmp_path: Path, content: str | bytes | None, reason: str) -> None:
    path = tmp_path / "secret"
    if content == "pipe":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read {path}: {reason}"):
        secret_text({"file": str(path)})


def test_a_secret_is_text_or_the_text_of_a_file_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("geheim über alles\nzwei\r\n")
    (tmp_path / "link").symlink_to("secret")
    assert secret_text({"file": str(tmp_path / "link")}) == "geheim über alles\nzwei"
    assert secret_text("text\n") == "text\n"


async def test_a_tree_deeper_than_names_may_be_is_refused(tmp_path: Path) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    tree = await shop.git("rev-parse", "HEAD^{tree}")
    for _ in range(40):
        (shop.path / ".git" / "tree").write_bytes(f"40000 {'d' * 120}\0".encode() + bytes.fromhex(tree))
        tree = await shop.git("hash-object", "-t", "tree", "-w", ".git/tree")
    commit = await shop.git("commit-tree", "-m", "deep", tree)
    await shop.git("update-ref", "refs/heads/main", commit)
    with pytest.raises((BuildError, WorldError)):
        await Fetched(tmp_path).fetch(shop.path, commit)
