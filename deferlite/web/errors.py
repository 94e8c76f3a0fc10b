"""One shape for every error on the wire: ``{"error": CODE, "message": TEXT}``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from deferlite.model.errors import (
    AbortInProgress,
    Conflict,
    DeferliteError,
    InvalidCursor,
    NotFound,
    StoreError,
    UnknownFunction,
)
from deferlite.model.ids import InvalidId

JSON = "application/json"

STATUS: Mapping[type[Exception], tuple[int, str]] = MappingProxyType(
    {
        UnknownFunction: (400, "bad_request"),
        InvalidCursor: (400, "bad_request"),
        NotFound: (404, "not_found"),
        Conflict: (409, "conflict"),
        # Not a failure: what was asked for is under way already (DEFER-PROTOCOL: cancellation).
        AbortInProgress: (202, "aborting"),
        StoreError: (503, "unavailable"),
        DeferliteError: (500, "internal"),
    }
)
"""Status and code of the errors that the other rooms raise."""

_HTTP = {404: "not_found", 413: "payload_too_large"}


class ErrorBody(msgspec.Struct, frozen=True):
    """What is wrong as a code for programs and as a sentence, with the cure, for people."""

    error: str
    message: str


class ApiError(Exception):
    """Raised anywhere under a route: answered as ``status`` in the shape of ``ErrorBody``."""

    def __init__(self, status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.headers = headers


def bad_request(message: str) -> ApiError:
    return ApiError(400, "bad_request", message)


def not_found(message: str) -> ApiError:
    return ApiError(404, "not_found", message)


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    message = f"{method} is not a method of {path}: use {allowed}"
    return ApiError(405, "method_not_allowed", message, {"allow": allowed})


def error_answer(status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response in the one error shape."""
    return Response(msgspec.json.encode(ErrorBody(error, message)), status, headers, JSON)


def answer_for(error: Exception) -> Response | None:
    """The response to an error that is expected on the wire; None: it is a fault of the server."""
    if isinstance(error, ApiError):
        return error_answer(error.status, error.error, str(error), error.headers)
    if isinstance(error, InvalidId):
        return error_answer(400, "bad_request", malformed_id(str(error)))
    for kind, (status, code) in STATUS.items():
        if isinstance(error, kind):
            return error_answer(status, code, str(error))
    return None


def malformed_id(text: str) -> str:
    return f'malformed id "{text[:64]}": an id is a UUID, such as 0190a0c4-7d5e-7cc2-8c1f-3a5be1f0c9d4'


async def _known(request: Request, error: Exception) -> Response:
    answer = answer_for(error)
    assert answer is not None
    return answer


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 405:
        return await _known(request, method_not_allowed(request.method, path, (error.headers or {})["Allow"]))
    message = (
        f"there is no {path} here: /openapi.json lists what there is" if error.status_code == 404 else error.detail
    )
    code = _HTTP.get(error.status_code, "bad_request" if error.status_code < 500 else "internal")
    return error_answer(error.status_code, code, message, error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    return error_answer(500, "internal", "deferlite met an error of its own: its log says more")


HANDLERS: Mapping[type[Exception], ExceptionHandler] = MappingProxyType(
    {
        ApiError: _known,
        InvalidId: _known,
        DeferliteError: _known,
        HTTPException: _http,
        Exception: _unexpected,
    }
)
"""For ``Starlette(exception_handlers=…)``."""
