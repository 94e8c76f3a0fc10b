"""/openapi.json: the public API described from the same operations and structs that serve it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.web import public_v1, public_v2
from deferlite.web.endpoint import Operation
from deferlite.web.errors import JSON, ErrorBody
from deferlite.web.services import Services

_REFERENCE = "#/components/schemas/{name}"
_SECURITY: list[dict[str, list[str]]] = [{"basic": []}, {"bearer": []}]
_ANY_CALL: dict[int, Any] = {400: ErrorBody, 401: ErrorBody, 413: ErrorBody}
_ANY_OF_ONE: dict[int, Any] = {404: ErrorBody}
_PHRASES = {
    200: "Done",
    201: "Accepted and on disk",
    202: "Not yet",
    204: "Never will be",
    400: "Malformed, or a name that is not known",
    401: "No token, or not a good one",
    404: "Not in this environment",
    409: "Its state does not allow this",
    413: "The body is over 1 MiB",
}


def describe(version: str, operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``operations``."""
    operations = tuple(operations)
    paths: dict[str, dict[str, Any]] = {}
    schemas, components = _schemas(operations)
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "deferlite", "version": version, "description": "The token names the environment."},
        "security": _SECURITY,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "Empty user, the token as password."},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": components,
        },
    }


def _schemas(operations: tuple[Operation, ...]) -> tuple[dict[Any, Any], dict[str, Any]]:
    kinds: dict[Any, None] = {ErrorBody: None}
    for operation in operations:
        kinds.update(dict.fromkeys([operation.body] if operation.body else []))
        kinds.update(dict.fromkeys(kind for kind in operation.answers.values() if kind and kind.__class__ is not str))
    found, components = msgspec.json.schema_components(list(kinds), ref_template=_REFERENCE)
    return dict(zip(kinds, found, strict=True)), components


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    answers = {**operation.answers, **_ANY_CALL, **(_ANY_OF_ONE if "{id}" in operation.path else {})}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _identifier(operation),
        "parameters": _parameters(operation),
        "responses": {str(status): _answer(status, answers[status], schemas) for status in sorted(answers)},
    }
    if operation.body is not None:
        required = any(field.required for field in msgspec.structs.fields(operation.body))
        described["requestBody"] = {"required": required, "content": {JSON: {"schema": schemas[operation.body]}}}
    return described


def _answer(status: int, kind: Any, schemas: dict[Any, Any]) -> dict[str, Any]:
    if kind is None:
        return {"description": _PHRASES[status]}
    if isinstance(kind, str):
        return {"description": kind}
    return {"description": _PHRASES[status], "content": {JSON: {"schema": schemas[kind]}}}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", operation.path)
    path = [{"name": n, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}} for n in names]
    query = [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in operation.query.items()
    ]
    return path + query


def _identifier(operation: Operation) -> str:
    words = re.sub(r"\W+", "_", operation.path.replace("{id}", "one")).strip("_")
    return f"{operation.method.lower()}_{words}"


def routes(services: Services) -> list[Route]:
    document = msgspec.json.encode(describe(services.version, public_v2.OPERATIONS + public_v1.OPERATIONS))

    async def openapi(request: Request) -> Response:
        return Response(document, 200, None, JSON)

    return [Route("/openapi.json", openapi)]
