"""Environments, their builds, functions and tokens, and what can be asked of them, in the admin API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.build import Build, Trigger
from deferlite.model.environment import Environment, EnvironmentConfig
from deferlite.model.environment_schema import NOT_YET
from deferlite.model.errors import Conflict
from deferlite.model.function import Function
from deferlite.model.ids import parse_id
from deferlite.store import Store
from deferlite.web.admin_filters import flag, whole_number
from deferlite.web.admin_logs import build_log
from deferlite.web.admin_shapes import answer, counts, environment_shape, shape
from deferlite.web.bodies import decoder, read_body
from deferlite.web.services import Services
from deferlite.web.wire import EnqueueBody, new_execution

BUILDS_SHOWN = 5
_CREATED, _NO_CONTENT = 201, 204
_DEFAULTS = msgspec.to_builtins(EnvironmentConfig(repository=""))


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    build: str | None = None


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""


_rollback_body, _token_body, _enqueue_body = decoder(RollbackBody), decoder(TokenBody), decoder(EnqueueBody)


def routes(services: Services, api: str) -> list[Route]:
    handlers = _Handlers(services)
    one = f"{api}/environments/{{name}}"
    return [
        Route(f"{api}/environments", handlers.index),
        Route(one, handlers.show),
        Route(f"{one}/functions", handlers.functions),
        Route(f"{one}/builds", handlers.builds, methods=["GET"]),
        Route(f"{one}/builds", handlers.build, methods=["POST"]),
        Route(f"{one}/rollback", handlers.rollback, methods=["POST"]),
        Route(f"{one}/executions", handlers.enqueue, methods=["PUT"]),
        Route(f"{one}/tokens", handlers.tokens, methods=["GET"]),
        Route(f"{one}/tokens", handlers.create_token, methods=["POST"]),
        Route(f"{one}/tokens/{{id}}", handlers.revoke_token, methods=["DELETE"]),
        Route(f"{api}/builds/{{id}}", handlers.show_build),
        Route(f"{api}/builds/{{id}}/logs", handlers.build_log),
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def index(self, request: Request) -> Response:
        retired = flag(request.query_params, "retired")
        by_state = await self._store.statistics.environments()
        environments = await self._store.environments.list(include_retired=retired)
        shown = [await self._summary(each) | {"counts": counts(by_state.get(each.name))} for each in environments]
        return answer({"data": shown})

    async def show(self, request: Request) -> Response:
        environment = await self._environment(request)
        by_state = await self._store.statistics.environments()
        details = {
            "counts": counts(by_state.get(environment.name)),
            "functions": await self._functions(environment.name),
            "builds": [shape(build) for build in await self._store.builds.list(environment.name)],
        }
        return answer({"data": await self._summary(environment) | details})

    async def functions(self, request: Request) -> Response:
        environment = await self._environment(request)
        return answer({"data": await self._functions(environment.name)})

    async def builds(self, request: Request) -> Response:
        environment = await self._environment(request)
        limit = whole_number(request.query_params.get("limit", "20"), "limit", 1, 1000)
        text = request.query_params.get("before")
        before = whole_number(text, "before", 1, 10**12) if text else None
        builds = await self._store.builds.list(environment.name, limit=limit, before_number=before)
        return answer({"data": [shape(build) for build in builds]})

    async def build(self, request: Request) -> Response:
        environment = await self._environment(request)
        return answer({"data": shape(await rebuild(self._store, environment.name))}, _CREATED)

    async def rollback(self, request: Request) -> Response:
        body = _rollback_body(await read_body(request.scope, request.receive))
        environment = await self._environment(request)
        build_id = parse_id(body.build) if body.build else None
        return answer({"data": shape(await self._store.builds.rollback(environment.name, build_id))})

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

    async def show_build(self, request: Request) -> Response:
        return answer({"data": shape(await self._store.builds.get(parse_id(request.path_params["id"])))})

    async def build_log(self, request: Request) -> Response:
        return await build_log(self._services, request, parse_id(request.path_params["id"]))

    async def _environment(self, request: Request) -> Environment:
        return await self._store.environments.get(request.path_params["name"])

    async def _summary(self, environment: Environment) -> dict[str, Any]:
        builds = await self._store.builds.list(environment.name, limit=BUILDS_SHOWN)
        live = await live_build(self._store, environment, builds)
        return environment_shape(environment) | {
            "live_build": shape(live) if live else None,
            "last_builds": [shape(build) for build in builds],
        }

    async def _functions(self, name: str) -> list[dict[str, Any]]:
        by_state = await self._store.statistics.functions(name)
        shown = []
        for function in await self._store.functions.list(name):
            details = await _spec(self._store, function)
            shown.append(shape(function) | details | {"counts": counts(by_state.get(function.id))})
        return shown


async def _spec(store: Store, function: Function) -> dict[str, Any]:
    spec = await store.functions.spec(function.id)
    return {"doc": spec.doc, "parameters": msgspec.to_builtins(spec.parameters)}


async def live_build(store: Store, environment: Environment, known: Iterable[Build]) -> Build | None:
    """The environment's live build, out of ``known`` where it is one of them."""
    if environment.live_build_id is None:
        return None
    found = next((build for build in known if build.id == environment.live_build_id), None)
    return found or await store.builds.get(environment.live_build_id)


async def rebuild(store: Store, environment: str) -> Build:
    """Ask for a build of the newest build's commit.

    Raises:
        Conflict: there has been none: its repository was never read.
    """
    newest = await store.builds.list(environment, limit=1)
    if not newest:
        raise Conflict(
            f"{environment} has no build to repeat: its repository has not been read yet; see its page or the log"
        )
    last = newest[0]
    return await store.builds.request(
        environment, commit=last.commit, branch=last.branch, message=last.message, trigger=Trigger.MANUAL
    )


def not_yet(environments: Iterable[Environment]) -> list[str]:
    """``ENV: KEY: what happens instead`` for what the files ask for and this version accepts without doing."""
    return [
        f"{environment.name}: {key}: {instead}"
        for environment in environments
        if environment.config
        for key, instead in NOT_YET.items()
        if _asks_for(msgspec.to_builtins(environment.config), key)
    ]


def _asks_for(config: Any, key: str) -> bool:
    path, _, value = key.partition("=")
    asked, default = _look_up(config, path), _look_up(_DEFAULTS, path)
    return bool(asked == value if value else asked != default)


def _look_up(config: Any, path: str) -> Any:
    if path in ("retention.executions", "retention.builds"):
        return config[path.replace(".", "_")]
    for part in path.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config
