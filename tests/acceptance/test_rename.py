"""A function is renamed while 1,000 of its executions wait: warned of, held, or taken over, and none is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Repository, Server

JOBS = """
import pathlib
import time

from deferlite import defer

@defer({options})
def {name}(number, gate):
    while not pathlib.Path(gate).exists():
        time.sleep(0.02)
    return [{name!r}, number]
"""
CALLS = 1000
RUNNING = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("home")) as running:
        yield running


class Renamed:
    """An environment with 1,000 calls of ``send`` of which some run, and a commit in which it is called ``mail``."""

    def __init__(self, server: Server, folder: Path, breaking: str, options: str = "") -> None:
        self.server, self.name, self.gate = server, folder.name, folder / "gate" / "open"
        self.gate.parent.mkdir(parents=True)
        repository = Repository(folder / "code", {"jobs.py": JOBS.format(name="send", options="")})
        server.add(
            self.name,
            f'repository = "{repository.path}"\n[build]\nbreaking = "{breaking}"\n'
            f'[run]\nconcurrency = {RUNNING}\nmounts = ["{self.gate.parent}"]\n',
        )
        first = server.until_built(self.name)
        assert first["state"] == "succeed", first
        self.client = server.client(self.name)
        calls = [(number, str(self.gate)) for number in range(CALLS)]
        self.ids = self.client.enqueue_many("send", calls)
        server.until(lambda admin: self.counts(admin)["started"] == RUNNING or None)
        commit = repository.commit("Rename", {"jobs.py": JOBS.format(name="mail", options=options)})
        self.build = server.until_built(self.name, commit)

    def counts(self, admin: Any) -> Counter[str]:
        return Counter(admin.get(f"/environments/{self.name}").json()["data"]["counts"])

    def endings(self) -> Counter[tuple[str, str]]:
        """How many of the thousand ended how and under which name, once all have."""
        self.gate.touch()
        self.server.until(lambda admin: not (self.counts(admin)["created"] or self.counts(admin)["started"]) or None)
        found = (self.client.get(id) for id in self.ids)
        return Counter((each["state"], each["function_name"]) for each in found)


def test_under_warn_they_fail_at_once_with_a_sentence(server: Server, tmp_path: Path) -> None:
    renamed = Renamed(server, tmp_path / "warn", "warn")
    assert (renamed.build["live"], renamed.build["held"]) == (True, False)
    (finding,) = renamed.build["findings"]
    assert (finding["kind"], finding["function"], finding["executions"]) == ("gone", "send", CALLS - RUNNING)
    assert renamed.endings() == {("failed", "send"): CALLS - RUNNING, ("succeed", "send"): RUNNING}
    said = renamed.client.http.get(f"/executions/{renamed.ids[-1]}/results").json()["message"]
    assert "send" in said and "aliases" in said


def test_under_hold_they_run_on_the_build_before(server: Server, tmp_path: Path) -> None:
    renamed = Renamed(server, tmp_path / "hold", "hold")
    assert (renamed.build["live"], renamed.build["held"]) == (False, True)
    assert renamed.endings() == {("succeed", "send"): CALLS}
    assert server.cli("promote", renamed.name).stdout.strip() == renamed.build["id"]
    assert renamed.client.call("mail", 7, str(renamed.gate)) == ("succeed", ["mail", 7])


def test_with_an_alias_they_go_on_under_the_new_name(server: Server, tmp_path: Path) -> None:
    renamed = Renamed(server, tmp_path / "alias", "hold", 'aliases=["send"]')
    assert (renamed.build["live"], renamed.build["findings"]) == (True, [])
    (change,) = renamed.build["changes"]["functions"]
    assert (change["kind"], change["before"], change["after"]) == ("renamed", "send", "mail")
    assert renamed.endings() == {("succeed", "mail"): CALLS - RUNNING, ("succeed", "send"): RUNNING}
    # A producer of the older code.
    assert renamed.client.call("send", 7, str(renamed.gate)) == ("succeed", ["mail", 7])
