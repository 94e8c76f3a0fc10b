"""Remote repositories over real ssh and https: the server's own ssh and git, keys and certificates made here."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from deferlite.model.errors import DeferliteError, WorldError
from tests.services.git_fixtures import Fetched, files_of, smart_http
from tests.support import Repository

pytestmark = [pytest.mark.anyio, pytest.mark.needs("ssh")]


def new_key(path: Path) -> str:
    """Makes a key without a passphrase; the line of its public half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text()


class Host:
    """A machine with a repository, reached by ssh with one key."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "host"
        self.key = tmp_path / "a key" / "50% 'ours'"
        self.host_key = new_key(self.folder / "host_key")
        (self.folder / "authorized_keys").write_text(new_key(self.key))
        self.repository = Repository(self.folder / "shop", {"jobs.py": "ours"})
        self.commit = self.repository.git("rev-parse", "HEAD")
        self.known_hosts = tmp_path / "known hosts"
        self.port = 0

    @property
    def url(self) -> str:
        return f"ssh://git@127.0.0.1:{self.port}{self.repository.path}"

    def know(self, key: str) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}")

    def access(self) -> dict[str, str]:
        return {"key": str(self.key), "known_hosts": str(self.known_hosts)}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    program = [sys.executable, str(Path(__file__).with_name("ssh_server.py")), str(host.folder)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host.port = int(process.stdout.readline())
        host.know(host.host_key)
        try:
            yield host
        finally:
            process.terminate()


@pytest.fixture
def fetched(tmp_path: Path) -> Fetched:
    return Fetched(tmp_path)


async def test_a_repository_by_ssh_with_a_key_of_its_own(host: Host, fetched: Fetched) -> None:
    assert files_of(await fetched.fetch(host.url, host.commit, **host.access())) == {"jobs.py": "ours"}
    assert str(host.key) not in fetched.said


async def test_another_host_key_is_refused(host: Host, fetched: Fetched, tmp_path: Path) -> None:
    host.know(new_key(tmp_path / "another"))
    with pytest.raises(WorldError, match=rf"ssh-keygen -R '\[127.0.0.1\]:{host.port}' -f '.*known hosts'"):
        await fetched.fetch(host.url, host.commit, **host.access())


async def test_an_unknown_host_is_refused(host: Host, fetched: Fetched) -> None:
    host.known_hosts.write_text("")
    with pytest.raises(WorldError, match=f"ssh-keyscan -p {host.port} 127.0.0.1 >> '.*known hosts'"):
        await fetched.fetch(host.url, host.commit, **host.access())
    assert host.known_hosts.read_text() == ""


async def test_another_key_is_refused(host: Host, fetched: Fetched, tmp_path: Path) -> None:
    new_key(tmp_path / "foreign")
    with pytest.raises(DeferliteError, match=r"\[git\] key"):
        await fetched.fetch(host.url, host.commit, **host.access() | {"key": str(tmp_path / "foreign")})


@contextmanager
def https(folder: Path, authority: trustme.CA) -> Iterator[str]:
    """The address of the repositories in ``folder``, with a certificate of ``authority``."""
    with smart_http(folder, user="git", password="a token of the repository") as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        server.encrypt(context)
        yield f"https://localhost:{server.port}"


async def test_a_repository_by_https_with_a_token_from_a_file(
    tmp_path: Path, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "served" / "shop", {"jobs.py": "ours"})
    commit = repository.git("rev-parse", "HEAD")
    authority = trustme.CA()
    token = tmp_path / "token"
    token.write_text("a token of the repository\n")
    with https(tmp_path / "served", authority) as address:
        with pytest.raises(WorldError, match="certificate"):
            await fetched.fetch(f"{address}/shop", commit, token={"file": str(token)})
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        # As an operator tells git of a company's own authority.
        monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "authority.pem"))
        tree = await fetched.fetch(f"{address}/shop", commit, token={"file": str(token)})
    assert files_of(tree) == {"jobs.py": "ours"}
