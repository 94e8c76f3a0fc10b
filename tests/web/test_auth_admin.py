"""The admin key: in a header, as a session of a browser, against rebinding and foreign pages."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deferlite.model.clock import ManualClock
from deferlite.web.errors import HANDLERS
from deferlite.web.session import SESSION_SECONDS, AdminAuth, AdminGuard, is_open, trusted

pytestmark = pytest.mark.anyio

KEY = "k3y-of-the-admin"
URL = "http://127.0.0.1:3337"


@pytest.fixture
def hands() -> ManualClock:
    return ManualClock()


@pytest.fixture
def auth(hands: ManualClock) -> AdminAuth:
    return AdminAuth(KEY, ("0.0.0.0", "http://box.lan:3337", "jobs.example.org"), hands)


@pytest.fixture
def guarded(auth: AdminAuth) -> Starlette:
    async def page(request: Request) -> Response:
        return PlainTextResponse(request.method)

    return Starlette(
        routes=[
            Route("/", page, methods=["GET", "POST"]),
            Route("/admin/api/status", page),
            Route("/healthz", page),
        ],
        middleware=[Middleware(AdminGuard, auth)],
        exception_handlers=dict(HANDLERS),
    )


@pytest.fixture
async def browser(guarded: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url=URL)


@pytest.fixture
async def signed_in(browser: httpx.AsyncClient) -> httpx.AsyncClient:
    await browser.get("/", params={"key": KEY})
    return browser


async def test_without_a_key(browser: httpx.AsyncClient) -> None:
    for path in ("/", "/admin/api/status", "/metrics", "/anything"):
        answer = await browser.get(path)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
        assert "deferlite open" in answer.json()["message"]
        assert answer.headers["www-authenticate"] == 'Bearer realm="deferlite"'
    page = await browser.get("/", headers={"accept": "text/html,*/*"})
    assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")


async def test_the_key_in_a_header(browser: httpx.AsyncClient) -> None:
    good = {"authorization": f"Bearer {KEY}"}
    assert (await browser.get("/admin/api/status", headers=good)).text == "GET"
    assert (await browser.post("/", headers=good)).text == "POST"
    for wrong in (f"Bearer {KEY}x", "Bearer", f"Basic {KEY}", "Bearer \xe9"):
        answer = await browser.get("/", headers={b"authorization": wrong.encode("latin-1")})
        assert answer.status_code == 401


async def test_an_empty_key_opens_nothing() -> None:
    assert not AdminAuth("", (), ManualClock()).is_key("")


async def test_the_address_with_the_key_signs_in_and_is_cleaned(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/environments/a b", params={"key": KEY, "state": "failed"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/environments/a%20b?state=failed")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert KEY not in cookie and "Secure" not in cookie
    assert (await browser.get("/")).text == "GET"


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example/x", "///evil.example"])
async def test_the_clean_address_stays_here(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(f"{URL}{path}?key={KEY}")
    location = answer.headers["location"]
    assert answer.status_code == 303
    assert location.startswith("/") and location[1] not in "/\\"


async def test_over_https_the_cookie_is_secure(guarded: Starlette) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=guarded), base_url="https://jobs.example.org"
    ) as browser:
        answer = await browser.get("/", params={"key": KEY})
    assert "Secure" in answer.headers["set-cookie"]


async def test_a_wrong_key_in_the_address(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/", params={"key": "wrong"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert (await browser.post("/", params={"key": KEY})).status_code == 401


async def test_a_forged_or_foreign_session_is_refused(browser: httpx.AsyncClient, auth: AdminAuth) -> None:
    other = AdminAuth("another key", (), ManualClock())
    value = auth.issue()
    forged = [
        "",
        "x",
        KEY,
        value + "0",
        f"9{value}",
        other.issue(),
        f"99999999999.{value.partition('.')[2]}",
        "٣.x",
    ]
    for cookie in forged:
        header = f"{auth.cookie}={cookie}".encode()
        assert (await browser.get("/", headers={b"cookie": header})).status_code == 401
    assert auth.cookie != other.cookie


async def test_the_session_is_found_among_foreign_cookies(browser: httpx.AsyncClient, auth: AdminAuth) -> None:
    header = f'theme={{"a": [1, 2]}}; bad cookie; {auth.cookie}={auth.issue()}; last="x'.encode()
    assert (await browser.get("/", headers={b"cookie": header})).status_code == 200


async def test_a_session_ends(signed_in: httpx.AsyncClient, hands: ManualClock) -> None:
    assert (await signed_in.get("/")).status_code == 200
    hands.advance(SESSION_SECONDS + 1)
    assert (await signed_in.get("/")).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": URL}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8080"}, 403),
        ({"origin": "http://127.0.0.1:3337.evil.example"}, 403),
        ({"origin": "http://[bad"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://evil.example"}, 403),
    ],
)
async def test_a_write_with_the_cookie_comes_from_the_page(
    signed_in: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    answer = await signed_in.post("/", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"] == "forbidden" and "Origin" in answer.json()["message"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:3337", 200),
        ("localhost:8443", 200),
        ("LOCALHOST", 200),
        ("deferlite.localhost:3337", 200),
        ("[::1]:3337", 200),
        ("192.168.1.20:3337", 200),
        ("box.lan", 200),
        ("jobs.example.org:443", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:3337", 403),
        ("", 403),
        ("[::1", 403),
        ("x@127.0.0.1@evil.example", 403),
    ],
)
async def test_only_its_own_names_are_answered(browser: httpx.AsyncClient, host: str, status: int) -> None:
    answer = await browser.get("/", headers={"authorization": f"Bearer {KEY}", "host": host})
    assert answer.status_code == status
    if status == 403:
        assert "`hosts`" in answer.json()["message"]


async def test_the_unix_socket_is_trusted(guarded: Starlette) -> None:
    transport = httpx.ASGITransport(app=trusted(guarded))
    async with httpx.AsyncClient(transport=transport, base_url="http://deferlite") as owner:
        assert (await owner.get("/admin/api/status")).status_code == 200
        assert (await owner.post("/")).status_code == 200


async def test_open_paths_need_no_key(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/healthz", headers={"host": "anything.example"})).status_code == 200
    for path in ("/public/v2/executions", "/api/v1/enqueue", "/hooks/github", "/readyz", "/openapi.json"):
        assert is_open(path)
    for path in ("/", "/public", "/api/v2/x", "/admin/api/status", "/healthz/x", "/metrics", "/static/page.css"):
        assert not is_open(path)
