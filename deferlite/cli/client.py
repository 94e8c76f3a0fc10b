"""The command line's side of the admin API, over the socket in the server's home."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from deferlite.cli.errors import Failure, NoServer

SOCKET = "deferlite.sock"
_CONNECT = 5.0
_PATIENCE = 60.0
"""Seconds; longer than any wait the server is asked for in one call."""
Query = Mapping[str, str | int | list[str] | None]


class Server:
    """Calls of the admin API. Opens its connection at the first call; a context manager."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._reached = False
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(home / SOCKET)),
            base_url="http://localhost/admin/api",
            timeout=httpx.Timeout(_PATIENCE, connect=_CONNECT),
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, query: Query | None = None) -> Any:
        """The decoded JSON answer; raises NoServer, Failure."""
        return _decode(self.request("GET", path, query=query))

    def post(self, path: str, body: Any = None) -> Any:
        return _decode(self.request("POST", path, body={} if body is None else body))

    def put(self, path: str, body: Any) -> Any:
        return _decode(self.request("PUT", path, body=body))

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def request(self, method: str, path: str, *, query: Query | None = None, body: Any = None) -> httpx.Response:
        """One call.

        Raises:
            NoServer: nobody listens on the socket.
            Failure: the server refused; the message is its own.
        """
        self._reach()
        try:
            answer = self._client.request(method, path, params=_params(query), json=body)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        _refuse(answer)
        return answer

    def lines(self, path: str, query: Query | None = None) -> Iterator[dict[str, Any]]:
        """The objects of a stream of JSON lines, each as it comes, for as long as the server sends."""
        self._reach()
        timeout = httpx.Timeout(_PATIENCE, connect=_CONNECT, read=None)
        try:
            with self._client.stream("GET", path, params=_params(query), timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                    _refuse(answer)
                for line in answer.iter_lines():
                    if line:
                        yield json.loads(line)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _reach(self) -> None:
        # Before the first call: httpx tells neither why a socket is not to be had, nor closes what it tried with.
        if self._reached:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
                knock.settimeout(_CONNECT)
                knock.connect(str(self.home / SOCKET))
        except PermissionError:
            raise Failure(f"the server at {self.home} belongs to another user: run this as that user") from None
        except OSError:
            raise NoServer(self.home) from None
        self._reached = True

    def _unreachable(self, error: httpx.TransportError) -> Failure:
        if isinstance(error, httpx.ConnectError):
            return NoServer(self.home)
        if isinstance(error, httpx.TimeoutException):
            return Failure(f"the server at {self.home} did not answer within {_PATIENCE:g} s")
        return NoServer(self.home, f"the server at {self.home} went away in the middle of its answer")


def _params(query: Query | None) -> dict[str, str | list[str]]:
    return {
        key: value if isinstance(value, list) else str(value)
        for key, value in (query or {}).items()
        if value is not None and value != []
    }


def _decode(answer: httpx.Response) -> Any:
    return answer.json() if answer.content else None


def _refuse(answer: httpx.Response) -> None:
    if answer.is_error:
        raise Failure(_message(answer))


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code} {answer.reason_phrase}"
