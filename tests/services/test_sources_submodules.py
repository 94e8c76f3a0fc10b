"""Submodules: their files are part of a build, and a commit cannot name what its author may not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deferlite.builder.sources import fetch as fetching
from deferlite.builder.sources.mirror import prune_mirrors
from deferlite.builder.sources.modules import is_allowed, resolve_url
from deferlite.model.errors import BuildError, WorldError
from deferlite.sandbox.git import worktree_files
from tests.services.git_fixtures import Fetched, files_of, git_daemon, smart_http
from tests.services.watcher_fixtures import Repository, new_repository
from tests.services.watcher_fixtures import git as run_git

pytestmark = pytest.mark.anyio
FILE_TOO = ("-c", "protocol.file.allow=always")


@pytest.fixture
def fetched(tmp_path: Path) -> Fetched:
    return Fetched(tmp_path)


async def head(repository: Repository) -> str:
    return await repository.git("rev-parse", "HEAD")


async def with_submodule(outer: Repository, url: str | Path, path: str = "libs/inner") -> str:
    """Add a submodule, and give the commit that has it."""
    await outer.git(*FILE_TOO, "submodule", "--quiet", "add", "--", url, path)
    return await outer.commit("with a submodule")


async def family(folder: Path) -> tuple[Repository, str]:
    """A repository with a submodule that has a submodule, all by relative addresses; its commit."""
    await new_repository(folder / "inmost", "inmost")
    inner = await new_repository(folder / "inner", "inner")
    await with_submodule(inner, "../inmost", "deep")
    outer = await new_repository(folder / "outer", "outer")
    return outer, await with_submodule(outer, "../inner")


FAMILY = {"file1.py": "outer", "libs/inner/file1.py": "inner", "libs/inner/deep/file1.py": "inmost"}


def code_of(tree: Path) -> dict[str, str]:
    """Without what only the commits that add submodules bring."""
    return {name: text for name, text in files_of(tree).items() if name.endswith(".py") and "file2" not in name}


def is_family(tree: Path) -> bool:
    return FAMILY.items() <= code_of(tree).items()


async def test_of_a_remote_repository(tmp_path: Path, fetched: Fetched) -> None:
    _, commit = await family(tmp_path / "served")
    with git_daemon(tmp_path / "served") as address:
        assert is_family(await fetched.fetch(f"{address}/outer", commit))
        inner = await new_repository(tmp_path / "served" / "inner")
        old = await inner.git("rev-parse", "HEAD")
        await inner.commit("newer")
        # The commit that the repository records, not the newest; and what is there is not fetched again.
        assert is_family(await fetched.fetch(f"{address}/outer", commit))
        assert "fetching" not in fetched.said and old[:12] in fetched.said
        await prune_mirrors(fetched.layout, {f"{address}/outer"})
        assert len(list(fetched.layout.git.glob("*.modules/*/HEAD"))) == 2
        await prune_mirrors(fetched.layout, ())
        assert [path.name for path in fetched.layout.git.iterdir()] == ["empty"]


async def test_of_a_private_host_with_the_repositorys_own_password(tmp_path: Path, fetched: Fetched) -> None:
    _, commit = await family(tmp_path / "served")
    with smart_http(tmp_path / "served", user="me", password="secret") as server:
        assert is_family(await fetched.fetch(f"{server.url}/outer", commit, username="me", token="secret"))
        assert set(server.passwords) == {"me:secret"}


async def test_a_password_is_not_given_to_a_submodules_other_host(tmp_path: Path, fetched: Fetched) -> None:
    (tmp_path / "served").mkdir()
    inner = await new_repository(tmp_path / "served" / "inner", "inner")
    outer = await new_repository(tmp_path / "served" / "outer", "outer")
    with (
        smart_http(tmp_path / "served", user="me", password="secret") as other,
        smart_http(tmp_path / "served", user="me", password="secret") as server,
    ):
        await with_submodule(outer, inner.path)
        await outer.git("config", "--file", ".gitmodules", "submodule.libs/inner.url", f"{other.url}/inner")
        commit = await outer.commit()
        with pytest.raises(WorldError, match=r"submodule libs/inner: .*write \[git\] token"):
            await fetched.fetch(f"{server.url}/outer", commit, username="me", token="secret")
        assert server.passwords and other.seen and not other.passwords


async def test_of_a_checkout_that_has_them_nothing_is_fetched(tmp_path: Path, fetched: Fetched) -> None:
    outer, commit = await family(tmp_path)
    await outer.git(*FILE_TOO, "submodule", "--quiet", "update", "--init", "--recursive")
    (tmp_path / "inner").rename(tmp_path / "inner-away")
    (tmp_path / "inmost").rename(tmp_path / "inmost-away")
    assert is_family(await fetched.fetch(outer.path, commit))
    assert not list(fetched.layout.git.glob("*.modules"))
    await outer.git("worktree", "add", "-q", "-b", "other", tmp_path / "linked")
    assert is_family(await fetched.fetch(tmp_path / "linked", commit))


async def test_of_a_working_tree_as_it_stands(tmp_path: Path, fetched: Fetched) -> None:
    outer, _ = await family(tmp_path)
    await outer.git(*FILE_TOO, "submodule", "--quiet", "update", "--init", "--recursive")
    (outer.path / "libs" / "inner" / "new.py").write_text("not committed")
    tree = await fetched.fetch(outer.path, None, worktree=True)
    assert code_of(tree) == {**FAMILY, "libs/inner/new.py": "not committed"}
    assert "libs/inner/deep/file1.py" in (await worktree_files(outer.path)).names
    without = await fetched.fetch(outer.path, None, worktree=True, submodules=False)
    assert code_of(without) == {"file1.py": "outer"}


async def test_a_folder_of_this_machine_only_as_the_checkouts_owner_says(tmp_path: Path, fetched: Fetched) -> None:
    inner = await new_repository(tmp_path / "inner", "inner")
    outer = await new_repository(tmp_path / "outer", "outer")
    commit = await with_submodule(outer, inner.path)
    bare = tmp_path / "bare.git"
    await run_git("clone", "-q", "--bare", outer.path, bare)
    await run_git("config", "--unset", "remote.origin.url", cwd=bare)
    for where in (bare, f"file://{bare}"):
        with pytest.raises(BuildError, match=r"submodule libs/inner: .* a commit may name no folder of this one"):
            await fetched.fetch(where, commit)
    await run_git("config", "submodule.libs/inner.url", inner.path, cwd=bare)
    assert (await fetched.fetch(bare, commit) / "libs/inner/file1.py").read_text() == "inner"


async def test_they_can_be_left_out(tmp_path: Path, fetched: Fetched) -> None:
    outer, commit = await family(tmp_path)
    assert code_of(await fetched.fetch(outer.path, commit, submodules=False)) == {"file1.py": "outer"}
    assert "submodules are left out, as [git] submodules = false says: libs/inner" in fetched.said
    await outer.git("config", "--file", ".gitmodules", "submodule.libs/inner.update", "none")
    assert code_of(await fetched.fetch(outer.path, await outer.commit())) == {"file1.py": "outer", "file3.py": "change"}


async def test_a_commit_of_a_submodule_that_was_never_pushed(tmp_path: Path, fetched: Fetched) -> None:
    outer, _ = await family(tmp_path / "served")
    gone = "1" * 40
    await outer.git("update-index", "--cacheinfo", f"160000,{gone},libs/inner")
    await outer.git("commit", "-qm", "to nowhere")
    refused = pytest.raises(BuildError, match=f"submodule libs/inner: commit {gone[:12]} is not in the repository")
    with git_daemon(tmp_path / "served") as address, refused:
        await fetched.fetch(f"{address}/outer", await head(outer))


async def test_they_cannot_unfold_without_end(
    tmp_path: Path, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MOST_SUBMODULES", 1)
    _, commit = await family(tmp_path / "served")
    with git_daemon(tmp_path / "served") as address, pytest.raises(BuildError, match="more than 1 submodules"):
        await fetched.fetch(f"{address}/outer", commit)


async def committed(outer: Repository, gitmodules: str, path: str = "inner") -> str:
    """A commit with this file and a link to some commit at ``path``, whatever git itself would say to it."""
    (outer.path / ".gitmodules").write_text(gitmodules)
    await outer.git("add", ".gitmodules")
    await outer.git("update-index", "--add", "--cacheinfo", f"160000,{await head(outer)},{path}")
    await outer.git("commit", "-qm", "strange")
    return await head(outer)


@pytest.mark.parametrize(
    ("section", "path", "url", "wrong"),
    [
        ("../../hooks", "inner", "https://127.0.0.1:1/x", "its name leads out of"),
        ("inner", "../inner", "https://127.0.0.1:1/x", "its path leads out of"),
        ("inner", "/etc", "https://127.0.0.1:1/x", "its path leads out of"),
        ("inner", ".git/hooks", "https://127.0.0.1:1/x", "its path leads out of"),
        ("inner", "inner", "--upload-pack=touch sprung", "is not an address"),
        ("inner", "inner", "ext::touch sprung", "no address of another machine"),
        ("inner", "inner", "fd::17", "no address of another machine"),
        ("inner", "inner", "file:///etc", "no address of another machine"),
        ("inner", "inner", "/etc", "no address of another machine"),
        ("inner", "inner", "ftp://127.0.0.1:1/x", "no address of another machine"),
        ("inner", "inner", "../../../etc", "leads above git://"),
    ],
)
async def test_hostile_names_paths_and_addresses(
    tmp_path: Path, fetched: Fetched, section: str, path: str, url: str, wrong: str
) -> None:
    outer = await new_repository(tmp_path / "served" / "outer", "outer")
    text = f'[submodule "{section}"]\n\tpath = {path}\n\turl = {url}\n\tupdate = !touch {tmp_path}/sprung\n'
    commit = await committed(outer, text)
    with git_daemon(tmp_path / "served") as address, pytest.raises(BuildError, match=wrong):
        await fetched.fetch(f"{address}/outer", commit)
    assert not (tmp_path / "sprung").exists()


async def crafted(outer: Repository, entries: dict[str, str]) -> str:
    """A commit of a tree with these objects by mode and name, whatever git itself would say to it."""
    raw = b"".join(f"{name}\0".encode() + bytes.fromhex(sha) for name, sha in entries.items())
    tree = await stored(outer, raw, "tree")
    commit = await outer.git("commit-tree", "-m", "crafted", tree)
    await outer.git("update-ref", "refs/heads/main", commit)
    return commit


async def stored(outer: Repository, content: bytes, kind: str = "blob") -> str:
    (outer.path / ".git" / "stored").write_bytes(content)
    return await outer.git("hash-object", "-t", kind, "--literally", "-w", ".git/stored")


async def test_a_gitmodules_that_is_a_link_is_not_followed(tmp_path: Path, fetched: Fetched) -> None:
    outer = await new_repository(tmp_path / "outer", "outer")
    commit = await crafted(outer, {"120000 .gitmodules": await stored(outer, b"/etc/passwd")})
    for where in (outer.path, f"file://{outer.path}"):
        with pytest.raises(BuildError, match="git refuses"):
            await fetched.fetch(where, commit)


@pytest.mark.parametrize("name", ["..", ".git", ".GIT"])
async def test_a_tree_does_not_lead_out_of_its_folder(tmp_path: Path, fetched: Fetched, name: str) -> None:
    outer = await new_repository(tmp_path / "outer", "outer")
    inner = await crafted(outer, {"100644 bait.py": await stored(outer, b"bait")})
    commit = await crafted(outer, {f"40000 {name}": await outer.git("rev-parse", f"{inner}^{{tree}}")})
    with pytest.raises(BuildError, match="git refuses"):
        await fetched.fetch(outer.path, commit)
    assert not list(fetched.folder.rglob("bait.py"))


async def test_a_submodule_does_not_come_to_lie_behind_a_link(tmp_path: Path, fetched: Fetched) -> None:
    """A tree that git would never write names the folder twice: as a link, and as one with a submodule in it."""
    (tmp_path / "outside").mkdir()
    outer = await new_repository(tmp_path / "served" / "outer", "outer")
    entries = {
        "100644 .gitmodules": await stored(outer, b'[submodule "x"]\n\tpath = a/x\n\turl = ../outer\n'),
        "120000 a": await stored(outer, str(tmp_path / "outside").encode()),
        "40000 a": await stored(outer, b"160000 x\0" + bytes.fromhex(await head(outer)), "tree"),
    }
    commit = await crafted(outer, entries)
    for where in (outer.path, f"file://{outer.path}"):
        with pytest.raises((BuildError, WorldError)):
            await fetched.fetch(where, commit)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize(
    ("base", "url", "full"),
    [
        ("https://host/team/shop.git", "../lib.git", "https://host/team/lib.git"),
        ("https://host/team/shop.git/", "./lib", "https://host/team/shop.git/lib"),
        ("git@host:team/shop.git", "../lib.git", "git@host:team/lib.git"),
        ("git@host:shop.git", "../lib.git", "git@host:lib.git"),
        ("host:/srv/shop.git", "../lib.git", "host:/srv/lib.git"),
        ("ssh://git@host:22/srv/shop", "../../lib", "ssh://git@host:22/lib"),
        ("file:///srv/shop", "../lib", "file:///srv/lib"),
        ("https://host/shop", "https://other/lib", "https://other/lib"),
    ],
)
def test_relative_addresses(base: str, url: str, full: str) -> None:
    assert resolve_url(base, url) == full


def test_an_address_may_not_climb_above_its_host() -> None:
    for base in ("https://host/shop", "git@host:shop"):
        with pytest.raises(BuildError, match="leads above"):
            resolve_url(base, "../../other.host/x")


def test_which_addresses_a_commit_may_name() -> None:
    assert all(map(is_allowed, ("https://host/x", "ssh://host/x", "git@host:x", "git://host/x", "http://host/x")))
    assert not any(map(is_allowed, ("/x", "./x", "file:///x", "FILE:///x", "ext::sh", "ftp://host/x", "x", "a::b")))
