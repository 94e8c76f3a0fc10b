"""POST /hooks/push/ENV: whoever pushed says so, and the repository is looked at now and not at the next poll.

Open to everyone who knows the secret of the environment's ``[hooks]``: as ``?token=``, as GitHub's signature of the
body, or in GitLab's header. All refusals are the same, so that nobody learns which environments there are.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from secrets import token_bytes

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.environment import HookSettings
from deferlite.model.errors import NotFound
from deferlite.model.events import RepositoryPushed
from deferlite.sandbox.files import secret_text
from deferlite.web.bodies import read_body
from deferlite.web.errors import not_found
from deferlite.web.services import Services
from deferlite.web.wire import json_answer

log = logging.getLogger(__name__)

SHORTEST = 16
"""Signs of a secret, wherever it is kept."""

_PUSHES = {"x-github-event": "push", "x-gitlab-event": "Push Hook"}
_REFUSAL = (
    "no environment takes a push with this secret: name the environment as POST /hooks/push/ENV, "
    "and send the secret that its file has under [hooks]"
)


def routes(services: Services) -> list[Route]:
    async def push(request: Request) -> Response:
        name = request.path_params["name"]
        body = await read_body(request.scope, request.receive)
        secret = await _secret_of(services, name)
        if not _knows(request, body, secret):
            raise not_found(_REFUSAL)
        ignored = _other_event(request)
        if ignored is not None:
            return json_answer({"data": {"environment": name, "event": ignored, "ignored": ignored != "ping"}})
        services.bus.publish(RepositoryPushed(environment=name))
        return json_answer({"data": {"environment": name, "event": "push", "ignored": False}}, 202)

    return [Route("/hooks/push/{name}", push, methods=["POST"])]


async def _secret_of(services: Services, name: str) -> bytes:
    """One that nobody knows where there is none: a refusal takes as long there."""
    try:
        environment = await services.store.environments.get(name)
        config = environment.config
        if environment.state == "active" and config is not None and config.hooks is not None:
            return await anyio.to_thread.run_sync(_read, config.hooks)
    except NotFound:
        pass
    except ValueError as error:
        log.error("environment %s: [hooks] secret: %s: pushes are refused", name, error)
    return token_bytes(32)


def _read(settings: HookSettings) -> bytes:
    """Raises ValueError: it cannot be read, or is easy to guess."""
    secret = secret_text(settings.secret).encode()
    if len(secret) < SHORTEST:
        raise ValueError(f"it has fewer than {SHORTEST} signs: make one with: openssl rand -hex 32")
    return secret


def _knows(request: Request, body: bytes, secret: bytes) -> bool:
    """Whether the request proves that its sender knows the secret."""
    signature = "sha256=" + hmac.new(secret, body, "sha256").hexdigest()
    token = request.query_params.get("token", "")
    proofs = [
        (token.encode(errors="surrogateescape"), secret),
        (_header(request, "x-gitlab-token"), secret),
        (_header(request, "x-hub-signature-256"), signature.encode()),
    ]
    # As hashes: how long it takes does not even tell how long the secret is.
    return any(hmac.compare_digest(_digest(given), _digest(wanted)) for given, wanted in proofs)


def _header(request: Request, name: str) -> bytes:
    return request.headers.get(name, "").encode("latin-1")


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _other_event(request: Request) -> str | None:
    """The event that the request is about, if that is not a push."""
    for header, push in _PUSHES.items():
        event = request.headers.get(header)
        if event is not None and event != push:
            return event[:80]
    return None
