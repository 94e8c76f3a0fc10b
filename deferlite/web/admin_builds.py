"""Builds in the admin API."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.ids import parse_id
from deferlite.web.admin_logs import build_log
from deferlite.web.admin_shapes import answer, shape
from deferlite.web.services import Services


def routes(services: Services, api: str) -> list[Route]:
    async def show(request: Request) -> Response:
        build = await services.store.builds.get(parse_id(request.path_params["id"]))
        return answer({"data": shape(build)})

    async def logs(request: Request) -> Response:
        return await build_log(services, request, parse_id(request.path_params["id"]))

    return [Route(f"{api}/builds/{{id}}", show), Route(f"{api}/builds/{{id}}/logs", logs)]
