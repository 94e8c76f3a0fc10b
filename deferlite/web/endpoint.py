"""The public API's calls as data (an ``Operation`` each), and the one ASGI endpoint that runs them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deferlite.model.errors import StoreError
from deferlite.model.ids import parse_id
from deferlite.web.auth import Principal
from deferlite.web.bodies import read_body
from deferlite.web.errors import answer_for, error_answer, method_not_allowed
from deferlite.web.services import Services

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """One request by someone known."""

    services: Services
    principal: Principal
    scope: Scope
    receive: Receive

    @property
    def environment(self) -> str:
        return self.principal.environment

    @property
    def id(self) -> str:
        """The execution's id of the path.

        Raises:
            InvalidId: it is not a UUID.
        """
        return parse_id(self.scope["path_params"]["id"])

    def query(self, name: str) -> str | None:
        """The query parameter ``name``; the last one where it is given several times."""
        query: bytes = self.scope["query_string"]
        values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name) if query else None
        return values[-1] if values else None

    async def body(self) -> bytes:
        return await read_body(self.scope, self.receive)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """A call of the API: how it is answered, and what /openapi.json says of it."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, Any]
    """Status → the struct of its JSON, a text that describes another content, or None for no content.

    Without those that every call, or every call about one execution, may be answered with.
    """
    body: type | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameter → what it means."""


class Endpoint:
    """The operations of one path, as an ASGI app: authenticate, run, and answer errors in the one shape."""

    def __init__(self, services: Services, operations: Iterable[Operation]) -> None:
        self._services = services
        self._handlers = {operation.method: operation.handler for operation in operations}
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]
        self._allowed = ", ".join([*self._handlers, "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except StoreError as error:
            # Its message names files of the server, which are no business of an application's.
            logger.error("the queue cannot be used: %s", error)
            answer = error_answer(503, "unavailable", "the queue cannot be used just now: the server's log says why")
        except Exception as error:
            expected = answer_for(error)
            if expected is None:
                raise
            answer = expected
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        handler = self._handlers.get(scope["method"])
        if handler is None:
            if scope["method"] == "OPTIONS":
                return Response(status_code=204, headers={"allow": self._allowed})
            raise method_not_allowed(scope["method"], scope["path"], self._allowed)
        principal = await self._services.public_auth.principal(scope)
        return await handler(Call(self._services, principal, scope, receive))


def routes_of(services: Services, operations: Iterable[Operation]) -> list[Route]:
    """One route for each path, in the order of their first operation."""
    paths: dict[str, list[Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, []).append(operation)
    # No methods on the route: the endpoint answers 405 itself, naming all that are allowed.
    return [Route(path, Endpoint(services, group), name=path) for path, group in paths.items()]
