"""Who is asking: the tokens of the public API. The page and the admin API are in session.py."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from typing import cast

import msgspec
from starlette.types import Scope

from deferlite.model.errors import NotFound
from deferlite.model.ids import ExecutionTokens
from deferlite.store import Store
from deferlite.web.errors import ApiError

_MOST_REMEMBERED = 10_000
_CHALLENGE = {"www-authenticate": 'Basic realm="deferlite", charset="UTF-8"'}
_HOW = "send it as the password of an empty user (curl -u :TOKEN), or as Authorization: Bearer TOKEN"

_NOT_GOOD = (
    "the token is not good: mistyped, revoked, or its environment is retired; `deferlite token create ENV` makes one"
)


class Principal(msgspec.Struct, frozen=True):
    """The environment a call may touch, and the execution that makes it, if it comes from inside one."""

    environment: str
    execution_id: str | None = None


class PublicAuth:
    """Verifies the tokens of environments, which the store keeps in memory, and of running executions."""

    def __init__(self, store: Store, execution_tokens: ExecutionTokens) -> None:
        self._store = store
        self._execution_tokens = execution_tokens
        self._executions: dict[str, Principal] = {}

    async def principal(self, scope: Scope) -> Principal:
        """Who makes this request.

        Raises:
            ApiError: 401, no token or not a good one.
        """
        token = credentials(scope)
        if token is None:
            raise _unauthorized(f"a token is asked for: {_HOW}")
        if token.startswith("dlx_"):
            return await self._of_execution(token)
        environment = await self._store.tokens.verify(token)
        if environment is None:
            raise _unauthorized(_NOT_GOOD)
        return Principal(environment)

    async def _of_execution(self, token: str) -> Principal:
        verified = self._execution_tokens.verify(token)
        if verified is None or not await self._store.executions.is_running(*verified):
            raise _unauthorized("the token of an execution is good only while that execution runs")
        execution_id = verified[0]
        return self._executions.get(execution_id) or await self._remember(execution_id)

    async def _remember(self, execution_id: str) -> Principal:
        # Its environment never changes, so each execution is looked up once however much it enqueues.
        try:
            execution = await self._store.executions.get(None, execution_id)
        except NotFound:
            raise _unauthorized("the execution of this token is not there any more") from None
        if len(self._executions) >= _MOST_REMEMBERED:
            self._executions.clear()
        return self._executions.setdefault(execution_id, Principal(execution.environment, execution_id))


def credentials(scope: Scope) -> str | None:
    """The token of the Authorization header; None where there is none.

    Raises:
        ApiError: 401, the header cannot be read.
    """
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, rest = cast(bytes, value).partition(b" ")
            return _token(scheme.lower(), rest.strip())
    return None


def _token(scheme: bytes, rest: bytes) -> str:
    if scheme == b"bearer":
        return rest.decode("latin-1")
    if scheme != b"basic":
        raise _unauthorized(f"deferlite reads Basic and Bearer authorization only: {_HOW}")
    try:
        user, colon, password = b64decode(rest, validate=True).decode().partition(":")
    except (Base64Error, UnicodeDecodeError):
        raise _unauthorized(f"the Basic authorization cannot be read: {_HOW}") from None
    if user or not colon:
        raise _unauthorized(f"the token is in the wrong place: {_HOW}")
    return password


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, "unauthorized", message, _CHALLENGE)
