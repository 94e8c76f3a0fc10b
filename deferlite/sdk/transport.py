"""HTTP with kept-alive connections, from the standard library. All threads share them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import SSLError
from urllib.parse import SplitResult, urlsplit

from deferlite.sdk.errors import ConfigurationError, ServerUnavailable

_CONNECT_TIMEOUT = 10.0
_MOST_IDLE = 16


@dataclass(frozen=True)
class Answer:
    status: int
    state: str
    """The execution's state, where the answer is a result."""
    body: bytes


@lru_cache(maxsize=16)
def parse_endpoint(text: str) -> SplitResult:
    """Read ``http(s)://host[:port][/base/path]``.

    Raises:
        ConfigurationError: it is something else; the message does not repeat it, for it may hold a password.
    """
    try:
        parts = urlsplit(text.rstrip("/"))
        is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or " " in text) and parts.port != 0
    except ValueError:
        is_plain = False
    if not is_plain or parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable():
        raise ConfigurationError(_BAD_ENDPOINT)
    return parts


_BAD_ENDPOINT = (
    "DEFER_ENDPOINT is the address of a deferlite server, such as http://127.0.0.1:3337 or "
    "https://jobs.example.org/deferlite; the token goes into DEFER_TOKEN"
)

_Idle = list[HTTPConnection]
_Request = tuple[str, str, bytes | None, dict[str, str]]

# Lists are their own locks: append and pop are atomic.
_idle: defaultdict[str, _Idle] = defaultdict(list)


def close_idle() -> None:
    """Close all kept connections; the next request opens a new one."""
    for connections in list(_idle.values()):
        while connections:
            connections.pop().close()


if hasattr(os, "register_at_fork"):
    # Two processes must not talk on one socket.
    os.register_at_fork(after_in_child=close_idle)


def exchange(
    endpoint: SplitResult,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    timeout: float,
    repeatable: bool,
) -> Answer:
    """Send a request and read the whole answer, whatever its status.

    ``timeout`` is in seconds and for each wait on the socket. A kept connection may turn out closed, so only a
    ``repeatable`` request takes one (sent twice, it does no more than sent once), and goes to a new one if it was.

    Raises:
        ServerUnavailable: nobody answers, or not in time, or not in HTTP.
    """
    request = (method, endpoint.path + target, body, dict(headers))
    idle = _idle[f"{endpoint.scheme}://{endpoint.netloc}"]
    try:
        with suppress(IndexError, ConnectionError, HTTPException, SSLError):
            if repeatable:
                return _send(idle.pop(), request, timeout, idle)
        return _send(_new(endpoint), request, timeout, idle)
    except (OSError, HTTPException) as error:
        raise _unavailable(endpoint.geturl(), error, timeout, repeatable) from error


def _new(endpoint: SplitResult) -> HTTPConnection:
    kind = HTTPSConnection if endpoint.scheme == "https" else HTTPConnection
    return kind(endpoint.hostname or "", endpoint.port, timeout=_CONNECT_TIMEOUT)


def _send(connection: HTTPConnection, request: _Request, timeout: float, idle: _Idle) -> Answer:
    """Keeps the connection in ``idle`` afterwards, if the server does."""
    try:
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(timeout)
        connection.request(*request)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers.get("Deferlite-State", ""), response.read())
    except BaseException:
        connection.close()
        raise
    if response.will_close or len(idle) >= _MOST_IDLE:
        connection.close()
    else:
        idle.append(connection)
    return answer


def _unavailable(endpoint: str, error: Exception, timeout: float, repeatable: bool) -> ServerUnavailable:
    if isinstance(error, TimeoutError):
        text = f"the server at {endpoint} did not answer within {timeout:g} seconds"
    else:
        text = (
            f"no deferlite server answers at {endpoint} ({str(error) or type(error).__name__}): "
            "is `deferlite serve` running? DEFER_ENDPOINT says where to look for it"
        )
    return ServerUnavailable(text if repeatable else f"{text}; it may have been done: look before asking again")
