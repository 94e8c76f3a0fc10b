"""Builds in the admin API: asked for, watched, cancelled, made live."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.builder.layout import Layout
from deferlite.builder.sources import history_of, resolve_commit
from deferlite.model.build import Build, Trigger
from deferlite.model.environment import Environment, EnvironmentConfig
from deferlite.model.errors import BuildError, Conflict, WorldError
from deferlite.model.ids import parse_id
from deferlite.sandbox.refs import subject_of
from deferlite.store import Store
from deferlite.web.admin_filters import whole_number
from deferlite.web.admin_logs import build_log
from deferlite.web.admin_shapes import answer, shape
from deferlite.web.bodies import decoder, read_body
from deferlite.web.errors import ApiError, bad_request
from deferlite.web.services import Services

_CREATED = 201


class BuildBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    commit: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    """What names a commit, such as the first signs of its SHA; None: what the environment follows."""


class PromoteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    build: str | None = None


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    build: str | None = None
    resume: bool = False
    """End a rollback in place of making one."""


_build_body, _promote_body, _rollback_body = decoder(BuildBody), decoder(PromoteBody), decoder(RollbackBody)


def routes(services: Services, api: str) -> list[Route]:
    handlers = _Handlers(services)
    environment, build = f"{api}/environments/{{name}}", f"{api}/builds/{{id}}"
    return [
        Route(f"{environment}/builds", handlers.index, methods=["GET"]),
        Route(f"{environment}/builds", handlers.request, methods=["POST"]),
        Route(f"{environment}/promote", handlers.promote, methods=["POST"]),
        Route(f"{environment}/rollback", handlers.rollback, methods=["POST"]),
        Route(build, handlers.show),
        Route(f"{build}/logs", handlers.log),
        Route(f"{build}/cancel", handlers.cancel, methods=["POST"]),
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._builds = services.store.builds

    async def index(self, request: Request) -> Response:
        environment = await self._environment(request)
        limit = whole_number(request.query_params.get("limit", "20"), "limit", 1, 1000)
        text = request.query_params.get("before")
        before = whole_number(text, "before", 1, 10**12) if text else None
        builds = await self._builds.list(environment.name, limit=limit, before_number=before)
        return answer({"data": [shape(build) for build in builds]})

    async def request(self, request: Request) -> Response:
        body = _build_body(await read_body(request.scope, request.receive))
        environment = await self._environment(request)
        return answer({"data": shape(await request_build(self._services, environment, body.commit))}, _CREATED)

    async def promote(self, request: Request) -> Response:
        body = _promote_body(await read_body(request.scope, request.receive))
        environment = await self._environment(request)
        return answer({"data": shape(await self._builds.promote(environment.name, _id(body.build)))})

    async def rollback(self, request: Request) -> Response:
        body = _rollback_body(await read_body(request.scope, request.receive))
        environment = await self._environment(request)
        if body.resume and body.build:
            raise bad_request("build and resume: write one of the two, resume follows the newest commit again")
        if body.resume:
            return answer({"data": shape(await self._builds.resume(environment.name))})
        return answer({"data": shape(await self._builds.rollback(environment.name, _id(body.build)))})

    async def show(self, request: Request) -> Response:
        return answer({"data": shape(await self._builds.get(parse_id(request.path_params["id"])))})

    async def log(self, request: Request) -> Response:
        return await build_log(self._services, request, parse_id(request.path_params["id"]))

    async def cancel(self, request: Request) -> Response:
        return answer({"data": shape(await self._builds.cancel(parse_id(request.path_params["id"])))})

    async def _environment(self, request: Request) -> Environment:
        return await self._services.store.environments.get(request.path_params["name"])


def _id(text: str | None) -> str | None:
    return parse_id(text) if text else None


async def live_build(store: Store, environment: Environment, known: Iterable[Build]) -> Build | None:
    """The environment's live build, out of ``known`` where it is one of them."""
    if environment.live_build_id is None:
        return None
    found = next((build for build in known if build.id == environment.live_build_id), None)
    return found or await store.builds.get(environment.live_build_id)


async def request_build(services: Services, environment: Environment, commit: str | None = None) -> Build:
    """Ask for a build of what the environment follows now, or of another ``commit``, as a person names it.

    Raises:
        Conflict: its file has never been good, its repository was never read, or it cannot be built now.
        ApiError: 400, there is no such commit; 503, the repository cannot be asked.
    """
    followed = await services.store.builds.newest_followed(environment.name)
    if followed is None or environment.config is None:
        unread = "its repository has not been read yet; see its page or the log"
        raise Conflict(
            f"{environment.name} has no build to repeat: {environment.error or environment.problem or unread}"
        )
    chosen, branch, message = followed.commit, followed.branch, followed.message
    if commit is not None:
        chosen, message = await _named(services, environment.config, commit)
        branch = followed.branch if chosen == followed.commit else None
    return await services.store.builds.request(
        environment.name, commit=chosen, branch=branch, message=message, trigger=Trigger.MANUAL
    )


async def _named(services: Services, config: EnvironmentConfig, text: str) -> tuple[str, str]:
    """The full SHA of the commit that ``text`` names, and its subject. Raises ApiError."""
    layout = Layout(services.home)
    try:
        commit = await resolve_commit(layout, config, text)
    except BuildError as error:
        raise bad_request(f"commit: {error}") from None
    except WorldError as error:
        raise ApiError(503, "unavailable", str(error)) from None
    history = await history_of(layout, config)
    return commit, await subject_of(history, commit) if history else ""
