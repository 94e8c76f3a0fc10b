"""HTTP with kept-alive connections, from the standard library.

A pool per origin is shared by all threads. It is forgotten in a forked child: two processes must not talk on one
socket.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from deferlite.sdk.errors import ConfigurationError, ServerUnavailable

CONNECT_TIMEOUT = 10.0
_MOST_IDLE = 16


@dataclass(frozen=True)
class Endpoint:
    """A server's address; ``path`` is where the API begins, without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Keys in lower case."""
    body: bytes


@lru_cache(maxsize=16)
def parse_endpoint(text: str) -> Endpoint:
    """Read ``http(s)://host[:port][/base/path]``.

    Raises:
        ConfigurationError: it is something else; the message does not repeat it, for it may hold a password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigurationError(_BAD_ENDPOINT) from None
    plain = not (parts.query or parts.fragment or parts.username or parts.password) and text.isprintable()
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain or " " in text:
        raise ConfigurationError(_BAD_ENDPOINT)
    default = 443 if parts.scheme == "https" else 80
    return Endpoint(parts.scheme, parts.hostname, default if port is None else port, parts.path.rstrip("/"))


_BAD_ENDPOINT = (
    "DEFER_ENDPOINT is the address of a deferlite server, such as http://127.0.0.1:3337 or "
    "https://jobs.example.org/deferlite; the token goes into DEFER_TOKEN"
)


class Pool:
    """Connections to one origin that wait for their next request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []

    def take(self) -> HTTPConnection | None:
        """An idle connection that the other side has not closed, as far as one can see."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not _is_stale(connection):
                return connection
            connection.close()

    def give_back(self, connection: HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def clear(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


_pools: dict[tuple[str, str, int], Pool] = defaultdict(Pool)


def close_idle() -> None:
    """Close all kept connections; the next request opens a new one."""
    for pool in list(_pools.values()):
        pool.clear()


def _forget_after_fork() -> None:
    for pool in list(_pools.values()):
        # Another thread of the parent may have held the lock; this copy of it would never be released.
        pool._lock = threading.Lock()
        pool.clear()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def exchange(
    endpoint: Endpoint,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    timeout: float,
    repeatable: bool,
) -> Answer:
    """Send a request and read the whole answer, whatever its status.

    ``timeout`` is in seconds and for each wait on the socket. A kept connection that turns out closed is replaced once,
    if the request is ``repeatable``: sending it twice does no more than sending it once.

    Raises:
        ServerUnavailable: nobody answers, or not in time, or not in HTTP.
    """
    pool = _pools[endpoint.scheme, endpoint.host, endpoint.port]
    connection = pool.take()
    if connection is not None:
        try:
            return _send(pool, connection, method, endpoint.path + target, headers, body, timeout)
        except ConnectionError as error:
            if not repeatable:
                raise ServerUnavailable(
                    f"the connection to {endpoint} broke ({error}), and the server may have done what was asked: "
                    "look before asking again"
                ) from error
        except (OSError, HTTPException) as error:
            raise _unavailable(endpoint, error, timeout) from error
    try:
        return _send(pool, _open(endpoint), method, endpoint.path + target, headers, body, timeout)
    except (OSError, HTTPException) as error:
        raise _unavailable(endpoint, error, timeout) from error


def _open(endpoint: Endpoint) -> HTTPConnection:
    kind = HTTPSConnection if endpoint.scheme == "https" else HTTPConnection
    connection = kind(endpoint.host, endpoint.port, timeout=CONNECT_TIMEOUT)
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def _send(
    pool: Pool,
    connection: HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout: float,
) -> Answer:
    try:
        connection.sock.settimeout(timeout)
        connection.request(method, target, body, dict(headers))
        response = connection.getresponse()
        answer = _read(response)
    except BaseException:
        connection.close()
        raise
    if response.will_close:
        connection.close()
    else:
        pool.give_back(connection)
    return answer


def _read(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def _is_stale(connection: HTTPConnection) -> bool:
    """An idle connection with something to read has been closed, or is out of step."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _unavailable(endpoint: Endpoint, error: Exception, timeout: float) -> ServerUnavailable:
    if isinstance(error, TimeoutError):
        return ServerUnavailable(f"the server at {endpoint} did not answer within {timeout:g} seconds")
    reason = str(error) or type(error).__name__
    return ServerUnavailable(
        f"no deferlite server answers at {endpoint} ({reason}): is `deferlite serve` running? "
        "DEFER_ENDPOINT says where to look for it"
    )
