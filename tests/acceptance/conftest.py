"""A whole server with the functions that the clients' tests call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import Repository, Server

CALLED = """
import signal
import time

from deferlite import defer

@defer
def hello(*arguments, **keywords):
    return list(arguments)

@defer
def broken(message="broken"):
    raise ValueError(message)

@defer
def sleepy():
    time.sleep(1_000_000)

@defer
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1_000_000)
"""


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("called")
    repository = Repository(folder / "project", {"jobs.py": CALLED})
    with Server(folder / "home") as server:
        server.add("production", f'repository = "{repository.path}"\n')
        build = server.until_built("production")
        assert build["state"] == "succeed", build
        yield server


@pytest.fixture
def endpoint(called: Server) -> str:
    return called.url


@pytest.fixture
def token(called: Server) -> str:
    return called.token("production")
