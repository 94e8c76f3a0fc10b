"""Environments, their functions and tokens, and what can be asked of them, in the admin API."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.build import Build
from deferlite.model.environment import Environment, EnvironmentConfig
from deferlite.model.environment_schema import not_yet as asked_in_vain
from deferlite.model.function import Function
from deferlite.model.ids import parse_id
from deferlite.store import Store
from deferlite.store.overview import Glance
from deferlite.web.admin_builds import live_build
from deferlite.web.admin_filters import flag
from deferlite.web.admin_shapes import answer, counts, environment_shape, shape
from deferlite.web.bodies import decoder, read_body
from deferlite.web.services import Services
from deferlite.web.wire import EnqueueBody, new_execution

BUILDS_SHOWN = 5
_CREATED, _NO_CONTENT = 201, 204


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""


_token_body, _enqueue_body = decoder(TokenBody), decoder(EnqueueBody)


def routes(services: Services, api: str) -> list[Route]:
    handlers = _Handlers(services)
    one = f"{api}/environments/{{name}}"
    return [
        Route(f"{api}/environments", handlers.index),
        Route(one, handlers.show),
        Route(f"{one}/functions", handlers.functions),
        Route(f"{one}/executions", handlers.enqueue, methods=["PUT"]),
        Route(f"{one}/tokens", handlers.tokens, methods=["GET"]),
        Route(f"{one}/tokens", handlers.create_token, methods=["POST"]),
        Route(f"{one}/tokens/{{id}}", handlers.revoke_token, methods=["DELETE"]),
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def index(self, request: Request) -> Response:
        retired = flag(request.query_params, "retired")
        by_state = await self._store.statistics.environments()
        glances = await self._store.overview.environments(BUILDS_SHOWN, include_retired=retired)
        environments = await self._store.environments.list(include_retired=retired)
        shown = [
            _summary(each, glances.get(each.name, Glance())) | {"counts": counts(by_state.get(each.name))}
            for each in environments
        ]
        return answer({"data": shown})

    async def show(self, request: Request) -> Response:
        environment = await self._environment(request)
        by_state = await self._store.statistics.environments()
        builds = await self._store.builds.list(environment.name)
        live = await live_build(self._store, environment, builds)
        details = {
            "counts": counts(by_state.get(environment.name)),
            "functions": await self._functions(environment.name),
            "builds": [shape(build) for build in builds],
        }
        return answer({"data": _summary(environment, Glance(live=live, newest=tuple(builds[:BUILDS_SHOWN]))) | details})

    async def functions(self, request: Request) -> Response:
        environment = await self._environment(request)
        return answer({"data": await self._functions(environment.name)})

    async def enqueue(self, request: Request) -> Response:
        body = _enqueue_body(await read_body(request.scope, request.receive))
        environment = await self._environment(request)
        item = new_execution(body, None)
        (execution,) = await self._store.executions.enqueue(environment.name, [item])
        return answer({"data": shape(execution)}, _CREATED)

    async def tokens(self, request: Request) -> Response:
        environment = await self._environment(request)
        return answer({"data": [shape(token) for token in await self._store.tokens.list(environment.name)]})

    async def create_token(self, request: Request) -> Response:
        body = _token_body(await read_body(request.scope, request.receive))
        environment = await self._environment(request)
        info, token = await self._store.tokens.create(environment.name, body.name)
        return answer({"data": shape(info), "token": token}, _CREATED)

    async def revoke_token(self, request: Request) -> Response:
        environment = await self._environment(request)
        await self._store.tokens.revoke(environment.name, parse_id(request.path_params["id"]))
        return Response(status_code=_NO_CONTENT)

    async def _environment(self, request: Request) -> Environment:
        return await self._store.environments.get(request.path_params["name"])

    async def _functions(self, name: str) -> list[dict[str, Any]]:
        by_state = await self._store.statistics.functions(name)
        shown = []
        for function in await self._store.functions.list(name):
            details = await _spec(self._store, function)
            shown.append(shape(function) | details | {"counts": counts(by_state.get(function.id))})
        return shown


def _summary(environment: Environment, glance: Glance) -> dict[str, Any]:
    return environment_shape(environment) | {
        "live_build": shape(glance.live) if glance.live else None,
        "last_builds": [_without_changes(build) for build in glance.newest],
    }


def _without_changes(build: Build) -> dict[str, Any]:
    # Hundreds of environments with every commit of five builds each would be megabytes.
    shown = shape(build)
    del shown["changes"]
    return shown


async def _spec(store: Store, function: Function) -> dict[str, Any]:
    spec = await store.functions.spec(function.id)
    return {"doc": spec.doc, "parameters": msgspec.to_builtins(spec.parameters)}


def not_yet(environment: Environment) -> list[str]:
    """``KEY: what happens instead`` for what its file asks for and this version accepts without doing."""
    asked = _as_in_file(environment.config) if environment.config else {}
    return [f"{'.'.join(map(str, at))}: {instead}" for at, instead in asked_in_vain(asked, _DEFAULTS)] if asked else []


def _as_in_file(config: EnvironmentConfig) -> dict[str, Any]:
    return {**msgspec.to_builtins(config), "retention": {"executions": config.retention_executions}}


_DEFAULTS = _as_in_file(EnvironmentConfig(repository=""))
