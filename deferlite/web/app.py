"""The HTTP application: every route, one error shape, the admin key in front of all that is not open."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from deferlite.web import admin, console, health, hooks, metrics, openapi, public_v1, public_v2
from deferlite.web.errors import HANDLERS
from deferlite.web.services import Services
from deferlite.web.session import AdminGuard


def routes(services: Services) -> list[BaseRoute]:
    """All routes, the busiest first: they are tried in this order."""
    return [
        *public_v2.routes(services),
        *public_v1.routes(services),
        *hooks.routes(services),
        *health.routes(services),
        *openapi.routes(services),
        *metrics.routes(services),
        *admin.routes(services),
        *console.routes(services),
    ]


def create_app(services: Services) -> Starlette:
    """The application, to be served over TCP as it is and over the unix socket in ``auth.trusted``."""
    return Starlette(
        routes=routes(services),
        middleware=[Middleware(AdminGuard, services.admin_auth)],
        exception_handlers=dict(HANDLERS),
    )
