"""Remote repositories, as builds fetch them: transports, passwords, keys, refusals, and what is kept of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio.to_thread
import pytest

from deferlite.builder.sources import history_of, resolve_commit
from deferlite.builder.sources import mirror as mirroring
from deferlite.builder.sources.mirror import mirror_of, prune_mirrors
from deferlite.model.environment import EnvironmentConfig, GitSettings
from deferlite.model.errors import BuildError, DeferliteError, WorldError
from deferlite.sandbox import transfer
from deferlite.sandbox.access import Access, access_of, address_of, explain
from deferlite.sandbox.git import RepositoryError
from deferlite.sandbox.refs import commits_between, is_ancestor, remote_refs
from tests.services.git_fixtures import (
    Fetched,
    fake_ssh,
    files_of,
    git_daemon,
    silent_port,
    smart_http,
    with_path,
)
from tests.services.watcher_fixtures import Repository, new_repository

pytestmark = pytest.mark.anyio
SECRET = "s3cret/with@signs%"


@pytest.fixture
def fetched(tmp_path: Path) -> Fetched:
    return Fetched(tmp_path)


@pytest.fixture
async def shop(tmp_path: Path) -> Repository:
    (tmp_path / "served").mkdir()
    return await new_repository(tmp_path / "served" / "shop", "first")


async def head(repository: Repository) -> str:
    return await repository.git("rev-parse", "HEAD")


def everything_below(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_git_daemon(tmp_path: Path, shop: Repository, fetched: Fetched) -> None:
    with git_daemon(tmp_path / "served") as address:
        tree = await fetched.fetch(f"{address}/shop", await head(shop))
        assert files_of(tree) == {"file1.py": "first"}
        with pytest.raises(WorldError, match="mend the address"):
            await fetched.fetch(f"{address}/nothing", await head(shop))


@pytest.mark.parametrize("where", ["file", "address"])
async def test_a_password_reaches_its_host_and_nobody_else(
    tmp_path: Path, shop: Repository, fetched: Fetched, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[object] = []
    monkeypatch.setattr(transfer, "run", recorded(transfer.run, commands))
    with smart_http(tmp_path / "served", user="me", password=SECRET) as server:
        url, token = f"{server.url}/shop", tmp_path / "token"
        token.write_text(SECRET + "\n")
        settings: dict[str, object] = {"username": "me", "token": {"file": str(token)}}
        if where == "address":
            url, settings = url.replace("//", "//me:s3cret%2Fwith%40signs%25@"), {}
        assert files_of(await fetched.fetch(url, await head(shop), **settings)) == {"file1.py": "first"}
        access = await anyio.to_thread.run_sync(access_of, GitSettings(**settings))
        assert (await remote_refs(url, access)).heads["main"].commit == await head(shop)
        assert set(server.passwords) == {f"me:{SECRET}"}
    with pytest.raises(WorldError) as error:
        await remote_refs(url, access)
    for text in (fetched.said, str(error.value), repr(access), repr(commands)):
        assert SECRET not in text and "s3cret" not in text
    token.unlink()
    assert b"s3cret" not in await anyio.to_thread.run_sync(everything_below, tmp_path / "home")


def recorded(run, commands):
    async def recording(argv, **options):
        commands.append(argv)
        return await run(argv, **options)

    return recording


async def test_a_password_does_not_follow_a_redirect_to_another_host(
    tmp_path: Path, shop: Repository, fetched: Fetched
) -> None:
    with smart_http(tmp_path / "served", user="me", password="x") as other:
        refused = pytest.raises(WorldError, match=r"write \[git\] token")
        with smart_http(tmp_path / "served", redirect=other.url) as server, refused:
            await fetched.fetch(f"{server.url}/shop", await head(shop), username="me", token=SECRET)
        assert other.seen and not other.passwords


@pytest.mark.parametrize(
    ("status", "cure"), [(401, "write [git] token"), (403, "may not read"), (404, "mend the address")]
)
async def test_refusals_over_http_say_the_cure(tmp_path: Path, status: int, cure: str) -> None:
    with smart_http(tmp_path, status=status) as server, pytest.raises(WorldError) as error:
        await remote_refs(f"{server.url}/shop", Access(token="wrong"))
    assert cure in str(error.value) and f"{server.url}/shop" in str(error.value)


async def test_a_wrong_password_is_said_to_be_wrong(tmp_path: Path, shop: Repository) -> None:
    with smart_http(tmp_path / "served", user="me", password=SECRET) as server:
        for access in (None, Access(username="me", token="wrong")):
            with pytest.raises(WorldError, match=r"write \[git\] token and username"):
                await remote_refs(f"{server.url}/shop", access)


async def test_a_host_that_takes_connections_and_says_nothing(
    tmp_path: Path, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer.fetch, "__kwdefaults__", {**transfer.fetch.__kwdefaults__, "silence": 0.5})
    with silent_port() as port:
        for scheme in ("git", "http"):
            with pytest.raises(WorldError, match=r"said nothing for 0.5 s .*does not answer in time"):
                await fetched.fetch(f"{scheme}://127.0.0.1:{port}/shop", "1" * 40)


async def test_a_host_without_a_name_or_a_listener(fetched: Fetched) -> None:
    with pytest.raises(WorldError, match="no such host"):
        await fetched.fetch("https://nothing.invalid/shop.git", "1" * 40)
    with pytest.raises(WorldError, match="is the host up"):
        await fetched.fetch("git://127.0.0.1:1/shop.git", "1" * 40)


async def test_ssh_gets_the_key_and_the_hosts_and_always_checks_them(
    tmp_path: Path, shop: Repository, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = fake_ssh(tmp_path / "bin")
    monkeypatch.setenv("PATH", with_path(tmp_path / "bin"))
    key, hosts = tmp_path / 'my "key" $(id) it\'s', tmp_path / "known hosts 100%"
    key.write_text("key")
    key.chmod(0o600)
    hosts.write_text("")
    address = f"git@localhost:{shop.path}"
    await fetched.fetch(address, await head(shop), key=str(key), known_hosts=str(hosts))
    await remote_refs(f"ssh://git@localhost{shop.path}", None)
    first, *_, last = (json.loads(line) for line in record.read_text().splitlines())
    for arguments in (first, last):
        assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(arguments)
    quoted = str(key).replace('"', '\\"')
    assert {f'IdentityFile="{quoted}"', "IdentitiesOnly=yes", f'UserKnownHostsFile="{hosts}%"'} <= set(first)
    assert not any("Identit" in argument or "KnownHosts" in argument for argument in last)


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("No ED25519 host key is known for example.org\nHost key verification failed.", "ssh-keyscan example.org >> "),
        (
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
            "ssh-keygen -R example.org",
        ),
        ("git@example.org: Permission denied (publickey).", "write [git] key"),
        ("ssh: connect to host example.org port 22: Connection timed out", "does not answer in time"),
        ("ERROR: Repository not found.", "mend the address"),
        ("\x1b[2Jremote: ERROR: Repository not found.", "\ufffd[2Jremote"),
        ("SSL certificate problem: self-signed certificate", "add its authority"),
    ],
)
async def test_refusals_over_ssh_say_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, cure: str
) -> None:
    fake_ssh(tmp_path / "bin", failure=said)
    monkeypatch.setenv("PATH", with_path(tmp_path / "bin"))
    for address in ("git@example.org:shop.git", "ssh://git@example.org:22/shop.git"):
        with pytest.raises(WorldError) as error:
            await remote_refs(address, None)
        assert cure in str(error.value)


def test_files_of_access_are_looked_at_before_git_is(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key")
    key.chmod(0o644)
    with pytest.raises(RepositoryError, match=r"\[git\] key: .* may be read by others.*chmod 600"):
        access_of(GitSettings(key=str(key)))
    for settings in ({"key": "/no/key"}, {"known_hosts": "/no/hosts"}, {"token": {"file": "/no/token"}}):
        with pytest.raises(RepositoryError, match=r"\[git\] \w+: cannot read /no/\w+: No such file"):
            access_of(GitSettings(**settings))
    for content, reason in (("", "is empty"), ("a\nb", "more than one line")):
        (tmp_path / "token").write_text(content)
        with pytest.raises(RepositoryError, match=reason):
            access_of(GitSettings(token={"file": str(tmp_path / "token")}))
    assert access_of(GitSettings()) is None


def test_a_secret_is_in_no_text_about_an_address() -> None:
    address = address_of("https://me:p%40ss@host:8443/a/b.git", None)
    assert (address.url, address.access.username, address.access.token) == ("https://host:8443/a/b.git", "me", "p@ss")
    assert "p@ss" not in repr(address) + address.shown + explain("fatal: p@ss", address)
    assert address_of("https://me@host/a", Access(token="t")).access == Access(username="me", token="t")
    assert address_of("ssh://git@host/a", None).url == "ssh://git@host/a"


async def test_only_what_is_missing_is_fetched(tmp_path: Path, shop: Repository, fetched: Fetched) -> None:
    url = f"file://{shop.path}"
    first = await head(shop)
    await fetched.fetch(url, first)
    assert "fetching from" in fetched.said
    await fetched.fetch(url, first)
    assert "fetching from" not in fetched.said
    config = EnvironmentConfig(repository=url)
    second = await shop.commit("second")
    await fetched.fetch(url, second)
    history = await history_of(fetched.layout, config)
    assert history is not None
    commits, more = await commits_between(history, first, second)
    assert ([commit.subject for commit in commits], more) == (["second"], 0)
    assert await is_ancestor(history, first, second) is True
    assert await is_ancestor(history, second, first) is False
    assert await is_ancestor(history, "1" * 40, first) is None


async def test_builds_at_the_same_time_fetch_once(shop: Repository, fetched: Fetched) -> None:
    url, commit, log = f"file://{shop.path}", await head(shop), []
    async with anyio.create_task_group() as builds:
        for number in range(4):
            config, destination = EnvironmentConfig(repository=url), fetched.folder / f"same{number}" / "source"
            builds.start_soon(fetched.sources.fetch, config, commit, "main", destination, log.append)
    assert len([line for line in log if line.startswith("fetching from")]) == 1
    assert all(files_of(fetched.folder / f"same{number}" / "source") for number in range(4))


async def test_the_first_build_does_not_wait_for_all_history(
    shop: Repository, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "DEPTH", 3)
    url, commits = f"file://{shop.path}", [await shop.commit(f"commit {number}") for number in range(6)]
    await fetched.fetch(url, commits[-1])
    mirror = mirror_of(fetched.layout, url)
    assert await mirroring.has(mirror, commits[3]) and not await mirroring.has(mirror, commits[2])
    # A person may name an older one, and what comes later comes whole.
    assert "commit 0" in files_of(await fetched.fetch(url, commits[0])).values()
    later = [await shop.commit(f"later {number}") for number in range(6)]
    await fetched.fetch(url, later[-1])
    assert len((await commits_between(mirror, commits[-1], later[-1]))[0]) == 6


async def test_a_forced_push_and_a_branch_that_comes_back(tmp_path: Path, shop: Repository, fetched: Fetched) -> None:
    url, base = f"file://{shop.path}", await head(shop)
    await shop.git("checkout", "-qb", "feature")
    old = await shop.commit("old")
    await fetched.fetch(url, old, "feature")
    await shop.git("reset", "-q", "--hard", base)
    new = await shop.commit("new")
    assert "new" in files_of(await fetched.fetch(url, new, "feature")).values()
    await shop.git("checkout", "-q", "main")
    await shop.git("branch", "-qD", "feature")
    await shop.git("checkout", "-qb", "feature/below")
    below = await shop.commit("below")
    assert "below" in files_of(await fetched.fetch(url, below, "feature/below")).values()
    await shop.git("checkout", "-q", "main")
    with pytest.raises(BuildError, match=r"is not on branch feature of .* any more"):
        await fetched.fetch(url, "1" * 40, "feature")


async def test_a_killed_fetch_and_a_damaged_mirror_mend_themselves(shop: Repository, fetched: Fetched) -> None:
    url = f"file://{shop.path}"
    await fetched.fetch(url, await head(shop))
    mirror = mirror_of(fetched.layout, url)
    for name in ("shallow.lock", "packed-refs.lock", "HEAD.lock", "objects/pack/tmp_pack_x"):
        (mirror / name).touch()
    second = await shop.commit("second")
    await fetched.fetch(url, second)
    assert not list(mirror.rglob("*.lock")) and not list(mirror.rglob("tmp_*"))
    for path in (path for path in (mirror / "objects").rglob("*") if path.is_file()):
        path.chmod(0o600)
        path.write_bytes(b"" if path.suffix != ".idx" else path.read_bytes())
    assert "second" in files_of(await fetched.fetch(url, second)).values()
    assert "damaged" in fetched.said
    (mirror / "HEAD").write_text("nonsense")
    (mirror / "config").write_text("[nonsense")
    assert "third" in files_of(await fetched.fetch(url, await shop.commit("third"))).values()


async def test_sha256_repositories_and_one_that_changes_to_it(tmp_path: Path, fetched: Fetched) -> None:
    shop = await new_repository(tmp_path / "shop", "first")
    await fetched.fetch(f"file://{shop.path}", await head(shop))
    (tmp_path / "shop").rename(tmp_path / "old")
    (tmp_path / "shop").mkdir()
    await shop.git("init", "-q", "-b", "main", "--object-format=sha256")
    commit = await shop.commit("long")
    assert len(commit) == 64
    for where in (f"file://{shop.path}", shop.path):
        assert "long" in files_of(await fetched.fetch(where, commit)).values()


async def test_a_mirror_that_no_environment_uses_is_removed(tmp_path: Path, shop: Repository, fetched: Fetched) -> None:
    other = await new_repository(tmp_path / "other", "first")
    kept, gone = f"file://{shop.path}", f"file://{other.path}"
    await fetched.fetch(kept, await head(shop))
    await fetched.fetch(gone, await head(other))
    await prune_mirrors(fetched.layout, {kept})
    assert mirror_of(fetched.layout, kept).exists() and not mirror_of(fetched.layout, gone).exists()
    await fetched.fetch(kept, await head(shop))
    assert "fetching" not in fetched.said
    await fetched.fetch(gone, await head(other))


async def test_a_person_may_name_a_commit_in_many_ways(tmp_path: Path, shop: Repository, fetched: Fetched) -> None:
    first = await head(shop)
    await shop.git("tag", "-am", "x", "v1")
    second = await shop.commit("second")
    url = f"file://{shop.path}"
    await fetched.fetch(url, second)
    for where in (url, str(shop.path)):
        config = EnvironmentConfig(repository=where)
        for text, commit in {"v1": first, "main": second, first: first, first[:9]: first, second[:8]: second}.items():
            assert await resolve_commit(fetched.layout, config, text) == commit
        for text in ("nothing", "--all", "", "a\nb", "zzzz*", "abcdef12"):
            with pytest.raises(BuildError, match="commit"):
                await resolve_commit(fetched.layout, config, text)
    with pytest.raises(BuildError, match="worktree"):
        await resolve_commit(fetched.layout, EnvironmentConfig(repository="/x", worktree=True), "main")


async def test_history_of_what_is_not_there_yet(tmp_path: Path, shop: Repository, fetched: Fetched) -> None:
    for where in (f"file://{shop.path}", str(tmp_path / "nothing")):
        assert await history_of(fetched.layout, EnvironmentConfig(repository=where)) is None
    assert await history_of(fetched.layout, EnvironmentConfig(repository=str(shop.path))) == shop.path / ".git"


async def test_a_long_fetch_tells_how_far_it_is(
    shop: Repository, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "EVERY", 0.0)
    for number in range(150):
        (shop.path / f"{number}.bin").write_bytes(os.urandom(2000))
    await fetched.fetch(f"file://{shop.path}", await shop.commit("many"))
    assert any("%" in line for line in fetched.log)


async def test_an_address_cannot_be_an_option(fetched: Fetched, tmp_path: Path) -> None:
    for address in (f"--upload-pack=touch {tmp_path}/sprung", f"ext::touch {tmp_path}/sprung"):
        with pytest.raises(DeferliteError):
            await fetched.fetch(address, "1" * 40)
    assert not (tmp_path / "sprung").exists()
