"""Push hooks: whoever knows the secret is heard, everybody else is told the same."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from deferlite.bus import Bus
from deferlite.model.environment import EnvironmentConfig, HookSettings
from deferlite.model.events import RepositoryPushed
from deferlite.store import Store
from tests.support import PATIENCE, Repository, Server

pytestmark = pytest.mark.anyio
SECRET = "a-secret-of-the-tests"
URL = "/hooks/push/production"


def signed(body: bytes, secret: str = SECRET, event: str = "push") -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={digest}", "x-github-event": event}


@pytest.fixture
async def pushed(store: Store, bus: Bus) -> AsyncIterator[list[str]]:
    """The environments that pushes are told of; production has a hook, staging has none."""
    config = EnvironmentConfig(repository="/srv/shop", hooks=HookSettings(secret=SECRET))
    await store.environments.apply("production", config, "production.toml")
    heard: list[str] = []
    with bus.listening(RepositoryPushed, lambda event: heard.append(event.environment)):
        yield heard


async def test_the_token_of_the_address(anonymous: httpx.AsyncClient, pushed: list[str]) -> None:
    answer = await anonymous.post(f"{URL}?token={SECRET}")
    assert (answer.status_code, pushed) == (202, ["production"])
    assert answer.json() == {"data": {"environment": "production", "event": "push", "ignored": False}}


async def test_githubs_signature_of_the_raw_body(anonymous: httpx.AsyncClient, pushed: list[str]) -> None:
    body = '{"ref": "refs/heads/mäin"}'.encode()
    assert (await anonymous.post(URL, content=body, headers=signed(body))).status_code == 202
    assert (await anonymous.post(URL, content=body + b" ", headers=signed(body))).status_code == 404
    assert (await anonymous.post(URL, content=body, headers=signed(body, "another-secret!!"))).status_code == 404
    assert pushed == ["production"]


async def test_githubs_other_events_are_answered_and_ignored(anonymous: httpx.AsyncClient, pushed: list[str]) -> None:
    for event, ignored in (("ping", False), ("pull_request", True)):
        answer = await anonymous.post(URL, content=b"{}", headers=signed(b"{}", event=event))
        assert answer.status_code == 200
        assert answer.json() == {"data": {"environment": "production", "event": event, "ignored": ignored}}
    assert pushed == []


async def test_gitlabs_header(anonymous: httpx.AsyncClient, pushed: list[str]) -> None:
    headers = {"x-gitlab-token": SECRET, "x-gitlab-event": "Push Hook"}
    assert (await anonymous.post(URL, json={}, headers=headers)).status_code == 202
    assert (await anonymous.post(URL, json={}, headers=headers | {"x-gitlab-token": "x"})).status_code == 404
    other = headers | {"x-gitlab-event": "Issue Hook"}
    assert (await anonymous.post(URL, json={}, headers=other)).json()["data"]["ignored"] is True
    assert pushed == ["production"]


async def test_every_refusal_is_the_same(
    anonymous: httpx.AsyncClient, store: Store, pushed: list[str], tmp_path: Path
) -> None:
    (tmp_path / "short").write_text("\n")
    for name, secret in (("missing", tmp_path / "missing"), ("short", tmp_path / "short")):
        config = EnvironmentConfig(repository="/srv/shop", hooks=HookSettings(secret={"file": str(secret)}))
        await store.environments.apply(name, config, f"{name}.toml")
    retired = EnvironmentConfig(repository="/srv/shop", hooks=HookSettings(secret=SECRET))
    await store.environments.apply("retired", retired, "retired.toml")
    await store.environments.retire("retired")
    answers = [
        await anonymous.post(f"/hooks/push/{where}")
        for where in (
            "production",
            "production?token=",
            "production?token=wrong",
            f"production?token={SECRET}x",
            "production?token=%ff%00",
            f"staging?token={SECRET}",
            f"nobody?token={SECRET}",
            f"missing?token={SECRET}",
            "short?token=",
            f"retired?token={SECRET}",
        )
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert "[hooks]" in answers[0].text and SECRET not in answers[0].text
    assert pushed == []


async def test_a_secret_out_of_a_file_is_read_at_the_call(
    anonymous: httpx.AsyncClient, store: Store, pushed: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    config = EnvironmentConfig(repository="/srv/shop", hooks=HookSettings(secret={"file": str(file)}))
    await store.environments.apply("production", config, "production.toml")
    for secret in ("the-first-of-the-two", "the-second-of-the-two"):
        file.write_text(secret + "\n")
        assert (await anonymous.post(f"{URL}?token={secret}")).status_code == 202
    assert (await anonymous.post(f"{URL}?token=the-first-of-the-two")).status_code == 404


async def test_a_body_over_one_mebibyte_and_other_methods(anonymous: httpx.AsyncClient, pushed: list[str]) -> None:
    answer = await anonymous.post(f"{URL}?token={SECRET}", content=b"x" * (1024 * 1024 + 1))
    assert answer.status_code == 413
    assert (await anonymous.get(f"{URL}?token={SECRET}")).status_code == 405
    assert pushed == []


async def test_neither_key_nor_host_nor_origin_is_asked_for(anonymous: httpx.AsyncClient, pushed: list[str]) -> None:
    headers = {"host": "hooks.example.net", "origin": "https://example.net", "cookie": "deferlite=x"}
    assert (await anonymous.post(f"{URL}?token={SECRET}", headers=headers)).status_code == 202


def test_a_push_builds_at_once_where_the_poll_is_an_hour_away(tmp_path: Path) -> None:
    repository = Repository(
        tmp_path / "shop", {"jobs.py": "from deferlite import defer\n\n@defer\ndef a():\n    pass\n"}
    )
    more = f'[hooks]\nsecret = "{SECRET}"\n[preview]\nbranches = ["feature/*"]\n'
    with Server(tmp_path / "home") as server:
        server.add("shop", f'repository = "file://{repository.path}"\nbranch = "main"\npoll = "1h"\n{more}')
        assert server.until_built("shop")["state"] == "succeed"
        commit = repository.commit("second", {"more.py": ""})
        repository.git("branch", "feature/x")
        for _ in range(20):
            answer = httpx.post(f"{server.url}/hooks/push/shop?token={SECRET}", json={}, timeout=PATIENCE)
            assert answer.status_code == 202
        assert server.until_built("shop", commit)["state"] == "succeed"
        assert server.until_built("shop--feature-x", commit)["state"] == "succeed"
        with server.admin() as admin:
            assert len(admin.get("/environments/shop/builds").json()["data"]) == 2
