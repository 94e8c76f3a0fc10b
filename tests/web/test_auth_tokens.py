"""Tokens of the public API: every way to send one, and every way to be refused."""

from __future__ import annotations

from base64 import b64encode

import httpx
import pytest

from deferlite.model.ids import ExecutionTokens, new_id
from deferlite.store import Store

pytestmark = pytest.mark.anyio

E = "/public/v2/executions"
CALLS = [
    ("PUT", E),
    ("POST", E),
    ("GET", f"{E}/7"),
    ("PUT", f"{E}/batch"),
    ("POST", "/public/v1/enqueue"),
    ("POST", "/api/v1/enqueue"),
]


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


async def test_both_schemes(anonymous: httpx.AsyncClient, token: str) -> None:
    for header in (f"Bearer {token}", f"bearer  {token}", basic(f":{token}"), basic(f":{token}").replace("B", "b", 1)):
        assert (await anonymous.get(E, headers={"authorization": header})).status_code == 200


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_no_token(anonymous: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await anonymous.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert "curl -u :TOKEN" in answer.json()["message"]
    assert answer.headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("Bearer dlt_wrong", "mistyped, revoked"),
        ("Bearer", "mistyped, revoked"),
        ("Bearer \xe9", "mistyped, revoked"),
        (basic(":dlt_wrong"), "mistyped, revoked"),
        (basic(":"), "mistyped, revoked"),
        (basic("dlt_wrong:"), "the wrong place"),
        (basic("dlt_wrong"), "the wrong place"),
        ("Basic ???", "cannot be read"),
        ("Basic /w==", "cannot be read"),
        ("Digest username=x", "Basic and Bearer"),
        ("", "Basic and Bearer"),
        ("Bearer dlx_", "only while that execution runs"),
        (f"Bearer {ExecutionTokens().issue(new_id(0), 1)}", "only while that execution runs"),
    ],
)
async def test_wrong_tokens(anonymous: httpx.AsyncClient, header: str, says: str) -> None:
    answer = await anonymous.get(E, headers={b"authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert says in answer.json()["message"]
    assert "dlt_wrong" not in answer.text


async def test_a_revoked_token_is_refused_at_once(anonymous: httpx.AsyncClient, store: Store, token: str) -> None:
    headers = {"authorization": f"Bearer {token}"}
    assert (await anonymous.get(E, headers=headers)).status_code == 200
    (info,) = await store.tokens.list("production")
    await store.tokens.revoke("production", info.id)
    assert (await anonymous.get(E, headers=headers)).status_code == 401


async def test_the_token_of_a_retired_environment_is_refused(
    anonymous: httpx.AsyncClient, store: Store, token: str
) -> None:
    await store.environments.retire("production")
    answer = await anonymous.get(E, headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


async def test_a_token_of_one_environment_sees_nothing_of_another(
    anonymous: httpx.AsyncClient, api: httpx.AsyncClient, store: Store
) -> None:
    made = (await api.put(E, json={"function_name": "hello"})).json()["data"]["id"]
    other = (await store.tokens.create("staging", "other"))[1]
    anonymous.headers["authorization"] = f"Bearer {other}"
    assert (await anonymous.get(E)).json()["data"] == []
    assert (await anonymous.get(f"{E}/{made}")).status_code == 404


async def test_an_idempotency_key_belongs_to_its_environment(
    anonymous: httpx.AsyncClient, api: httpx.AsyncClient, store: Store
) -> None:
    body = {"function_name": "hello", "idempotency_key": "order-7"}
    made = (await api.put(E, json=body)).json()["data"]["id"]
    anonymous.headers["authorization"] = f"Bearer {(await store.tokens.create('staging', 'other'))[1]}"
    assert (await anonymous.put(E, json=body)).json()["data"]["id"] != made
