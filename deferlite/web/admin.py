"""The admin API: what the command line and programs of the owner use. Behind the admin key, or over the socket."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.clock import to_rfc3339
from deferlite.web import admin_builds, admin_environments, admin_executions
from deferlite.web.admin_shapes import answer
from deferlite.web.events import each_event, sse
from deferlite.web.services import Services

API = "/admin/api"


def routes(services: Services) -> list[Route]:
    async def status(request: Request) -> Response:
        return answer(await server_status(services))

    async def events(request: Request) -> Response:
        return sse(each_event(services.bus))

    return [
        Route(f"{API}/status", status),
        Route(f"{API}/events", events),
        *admin_environments.routes(services, API),
        *admin_builds.routes(services, API),
        *admin_executions.routes(services, API),
    ]


async def server_status(services: Services) -> dict[str, object]:
    """What this server is; ``not_yet`` names what environment files ask for and a later version brings."""
    environments = await services.store.environments.list()
    return {
        "version": services.version,
        "home": str(services.home),
        "endpoint": services.endpoint,
        "address": services.endpoint,
        "started_at": to_rfc3339(services.started_at),
        "sandbox": {"level": services.sandbox.level.value, "detail": services.sandbox.detail},
        "environments": len(environments),
        "not_yet": [f"{each.name}: {wish}" for each in environments for wish in admin_environments.not_yet(each)],
    }
