"""The status page and the console: pages, their live hints, and the forms that act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from deferlite.model.build import Build
from deferlite.model.errors import DeferliteError
from deferlite.model.execution import Execution
from deferlite.model.ids import InvalidId, parse_id
from deferlite.store import Page
from deferlite.store.builds import Builds
from deferlite.web import views
from deferlite.web.admin_builds import request_build
from deferlite.web.admin_filters import FILTERS, PAGES, log_position, parse_filter, parse_page, refuse_unknown
from deferlite.web.console_pages import page, static_answer
from deferlite.web.errors import ApiError, answer_for
from deferlite.web.events import hints, sse, topic_of
from deferlite.web.services import Services

Handler = Callable[[Request], Awaitable[Response]]
Action = Callable[[str], Awaitable[Build | Execution]]
"""Takes the id or name in the path; returns what it has changed."""
_SEE_OTHER = 303


def routes(services: Services) -> list[Route]:
    pages, store = _Pages(services), services.store
    shown = {
        "/": pages.overview,
        "/environments/{name}": pages.environment,
        "/builds/{id}": pages.build,
        "/executions": pages.executions,
        "/executions/{id}": pages.execution,
    }
    done: dict[str, Action] = {
        "/environments/{name}/build": partial(_rebuild, services),
        "/environments/{name}/resume": store.builds.resume,
        "/builds/{id}/cancel": store.builds.cancel,
        "/builds/{id}/promote": partial(_make_live, store.builds, store.builds.promote),
        "/builds/{id}/rollback": partial(_make_live, store.builds, store.builds.rollback),
        "/executions/{id}/cancel": lambda id: store.executions.cancel(None, id, force=False),
        "/executions/{id}/abort": lambda id: store.executions.cancel(None, id, force=True),
        "/executions/{id}/rerun": lambda id: store.executions.rerun(None, id),
        "/executions/{id}/run-now": lambda id: store.executions.reschedule(None, id, None),
    }
    return [
        Route("/events", pages.events),
        Route("/static/{name}", _static),
        *(Route(path, _told(services, handler)) for path, handler in shown.items()),
        *(Route(path, _told(services, _act(action)), methods=["POST"]) for path, action in done.items()),
    ]


async def _static(request: Request) -> Response:
    return static_answer(request.path_params["name"], request.query_params.get("v"))


def _told(services: Services, handler: Handler) -> Handler:
    """``handler``, with its errors as a page for people."""

    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except (DeferliteError, ApiError, InvalidId) as error:
            answer = answer_for(error)
            if answer is None:
                raise
            text = str(error) if not isinstance(error, InvalidId) else f"{error} is not an id"
            context = views.common(services) | {"message": text, "status": answer.status_code}
            return page(request, "message.html", context, answer.status_code)

    return wrapped


def _id(request: Request) -> str:
    return parse_id(request.path_params["id"])


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def overview(self, request: Request) -> Response:
        return page(request, "overview.html", await views.overview(self._services))

    async def environment(self, request: Request) -> Response:
        context = await views.environment(self._services, request.path_params["name"])
        return page(request, "environment.html", context)

    async def build(self, request: Request) -> Response:
        context = await views.build(self._services, _id(request), log_position(request.query_params))
        return page(request, "build.html", context)

    async def execution(self, request: Request) -> Response:
        context = await views.execution(self._services, _id(request), log_position(request.query_params))
        return page(request, "execution.html", context)

    async def executions(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, (*FILTERS, *PAGES, "fragment"))
        context = await views.executions(self._services, parse_filter(query), parse_page(query))
        chosen = {name: query.get(name, "") for name in FILTERS}
        return page(request, "executions.html", context | {"chosen": chosen} | _pager(request, context["page"]))

    async def events(self, request: Request) -> Response:
        return sse(hints(self._services.bus, topic_of(request)))


def _pager(request: Request, shown: Page[Execution]) -> dict[str, str | None]:
    """Addresses of the pages beside this one, with the same filters."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key in FILTERS and value]

    def address(*cursor: tuple[str, str | None]) -> str:
        return "/executions?" + urlencode([*kept, *((key, value) for key, value in cursor if value)])

    return {
        "newest": address(),
        "newer": address(("before", shown.start_cursor)) if shown.has_prev_page else None,
        "older": address(("after", shown.end_cursor)) if shown.has_next_page else None,
    }


def _act(action: Action) -> Handler:
    """What a form does; Origin and key have been checked in front of it. Leads to the page of what it is about."""

    async def handler(request: Request) -> Response:
        path = request.path_params
        about = await action(_id(request) if "id" in path else path["name"])
        if isinstance(about, Execution):
            return RedirectResponse(f"/executions/{about.id}", _SEE_OTHER)
        # What has become live is seen on the environment's page.
        where = f"/environments/{about.environment}" if about.live else f"/builds/{about.id}"
        return RedirectResponse(where, _SEE_OTHER)

    return handler


async def _rebuild(services: Services, name: str) -> Build:
    return await request_build(services, await services.store.environments.get(name))


async def _make_live(builds: Builds, release: Callable[[str, str | None], Awaitable[Build]], id: str) -> Build:
    return await release((await builds.get(id)).environment, id)
