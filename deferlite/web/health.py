"""Whether the server lives, and whether it takes work. Open to everyone: they say nothing else."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.web.errors import error_answer
from deferlite.web.services import Services
from deferlite.web.wire import json_answer


def routes(services: Services) -> list[Route]:
    async def healthz(request: Request) -> Response:
        return json_answer({"status": "ok"})

    async def readyz(request: Request) -> Response:
        if services.ready():
            return json_answer({"status": "ready"})
        return error_answer(503, "not_ready", "the server is starting or stopping: ask again in a moment")

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
