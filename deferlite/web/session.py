"""The key to the page and the admin API: a header, or a signed session cookie in a browser.

Every path is behind the key unless it is named here as open, so that a new route is closed by default.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from html import escape
from typing import cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deferlite.model.clock import SECOND, Clock
from deferlite.web.errors import ApiError, error_answer

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
OPEN_PREFIXES = ("/public/", "/api/v1/", "/hooks/")
SESSION_SECONDS = 30 * 86400
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_KEY = (
    "the admin key is asked for: open the address that `deferlite open` prints, "
    "or send Authorization: Bearer KEY with the key in admin.token of the server's home"
)


def is_open(path: str) -> bool:
    """Whether ``path`` is served without the admin key (the public API has tokens of its own)."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


class AdminAuth:
    """Checks the admin key, its sessions, and the names this server answers to.

    ``names``: host names or addresses of this server, ports and schemes allowed around them.
    """

    def __init__(self, key: str, names: Iterable[str], clock: Clock) -> None:
        self._key = key.encode()
        self._clock = clock
        self._hosts = frozenset({"localhost", *(_host_of(name) for name in names)}) - {""}
        # Cookies know no ports: two servers on one machine must not take each other's.
        self.cookie = f"deferlite_{hashlib.sha256(self._key).hexdigest()[:8]}"

    def is_key(self, text: str) -> bool:
        return bool(self._key) and hmac.compare_digest(text.encode(), self._key)

    def issue(self) -> str:
        """The value of a new session cookie: its end and a signature, never the key."""
        expires = self._clock.now() // SECOND + SESSION_SECONDS
        return f"{expires}.{self._sign(expires)}"

    def is_session(self, value: str) -> bool:
        expires, _, signature = value.partition(".")
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 16 and signature.isascii()):
            return False
        good = hmac.compare_digest(signature, self._sign(int(expires)))
        return good and int(expires) > self._clock.now() // SECOND

    def is_host(self, host: str) -> bool:
        """Whether a Host header may be answered: an address cannot be rebound by DNS, a foreign name can."""
        name = _host_of(host)
        return name in self._hosts or name.endswith(".localhost") or _is_address(name)

    def check(self, scope: Scope) -> Response | None:
        """Let the request pass (None), or sign the browser in (a redirect to the clean address).

        Raises:
            ApiError: 401 without a good key or session, 403 for a foreign Host or Origin.
        """
        headers = _headers(scope)
        host = headers.get(b"host", "")
        if not self.is_host(host):
            raise _forbidden(f'"{host[:80]}" is not a name of this server: add it to `hosts` in deferlite.toml')
        scheme, _, bearer = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if self.is_key(bearer.strip()):
                return None
            raise _no_key("the admin key is wrong: " + _NO_KEY)
        if scope["method"] == "GET" and (answer := self._sign_in(scope)):
            return answer
        if not self.is_session(cookie_parser(headers.get(b"cookie", "")).get(self.cookie, "")):
            raise _no_key(_NO_KEY)
        if scope["method"] not in _READS:
            _check_origin(headers, host)
        return None

    def _sign_in(self, scope: Scope) -> Response | None:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        keys = [value for name, value in query if name == "key"]
        if not keys:
            return None
        if not self.is_key(keys[0]):
            raise _no_key("the key in the address is wrong: " + _NO_KEY)
        rest = urlencode([(name, value) for name, value in query if name != "key"])
        # Quoted and with one leading slash: never an address of another host.
        clean = "/" + quote(scope["path"].lstrip("/")) + (f"?{rest}" if rest else "")
        answer = Response(status_code=303, headers={"location": clean, "cache-control": "no-store"})
        answer.set_cookie(
            self.cookie,
            self.issue(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
        )
        return answer

    def _sign(self, expires: int) -> str:
        return hmac.new(self._key, f"session {expires}".encode(), "sha256").hexdigest()


class AdminGuard:
    """ASGI middleware: nothing but the open paths is reached without the admin key."""

    def __init__(self, app: ASGIApp, auth: AdminAuth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and not is_open(scope["path"]) and not _is_trusted(scope):
            try:
                app = self._auth.check(scope) or app
            except ApiError as error:
                app = _refusal(scope, error)
        await app(scope, receive, send)


def trusted(app: ASGIApp) -> ASGIApp:
    """``app`` for a door that only the owner can open (the unix socket): admin without a key."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        state = {**scope.get("state", {}), "trusted": True}
        await app({**scope, "state": state}, receive, send)

    return wrapped


def _is_trusted(scope: Scope) -> bool:
    return scope.get("state", {}).get("trusted") is True


def _refusal(scope: Scope, error: ApiError) -> Response:
    if "text/html" in _headers(scope).get(b"accept", "") and not scope["path"].startswith("/admin/api/"):
        page = f"<!doctype html><title>deferlite</title><h1>deferlite</h1><p>{escape(str(error))}</p>"
        return HTMLResponse(page, error.status, error.headers)
    return error_answer(error.status, error.error, str(error), error.headers)


def _check_origin(headers: dict[bytes, str], host: str) -> None:
    origin = headers.get(b"origin")
    if origin is None:
        same = headers.get(b"sec-fetch-site") == "same-origin"
    else:
        same = origin.partition("://")[2].lower() == host.lower() != ""
    if not same:
        raise _forbidden("a write with a session cookie must come from the page itself (Origin)")


def _headers(scope: Scope) -> dict[bytes, str]:
    return {cast(bytes, name): cast(bytes, value).decode("latin-1") for name, value in scope["headers"]}


def _host_of(text: str) -> str:
    """The bare lower-case host of ``HOST``, ``HOST:PORT``, ``[v6]:PORT``, a bare IPv6 address or an URL."""
    if _is_address(text):
        return text
    try:
        return (urlsplit(text if "//" in text else f"//{text}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _no_key(message: str) -> ApiError:
    return ApiError(401, "unauthorized", message, {"www-authenticate": 'Bearer realm="deferlite"'})


def _forbidden(message: str) -> ApiError:
    return ApiError(403, "forbidden", message)
