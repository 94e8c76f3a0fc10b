"""Pages out of templates: the template environment, its filters, the headers every page carries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from deferlite.model.build import word_of
from deferlite.model.clock import SECOND, to_rfc3339
from deferlite.model.words import plural
from deferlite.web import words

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"
LONGEST_TEXT = 64 * 1024
"""Characters of arguments or a result shown on a page."""
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    # Not no-referrer: a form would then send `Origin: null`.
    "referrer-policy": "same-origin",
}


class StaticFile(msgspec.Struct, frozen=True):
    content: bytes
    media_type: str
    version: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """The stylesheet, the script and the icon, each with the hash that its address carries."""
    return {path.name: _static_file(path) for path in (_HERE / "static").iterdir() if path.suffix in _TYPES}


def _static_file(path: Path) -> StaticFile:
    content = path.read_bytes()
    return StaticFile(content, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])


def static_answer(name: str, version: str | None) -> Response:
    """A static file; one asked for by its hash may be kept for ever."""
    file = static_files().get(name)
    if file is None:
        return Response(status_code=404)
    caching = _FOREVER if version == file.version else "no-cache"
    headers = {"cache-control": caching, "x-content-type-options": "nosniff"}
    return Response(file.content, headers=headers, media_type=file.media_type)


def page(request: Request, template: str, context: Mapping[str, Any], status: int = 200) -> Response:
    """The whole page; with ``?fragment=BLOCK`` only that block of it, for the script to swap in."""
    found = templates().get_template(template)
    fragment = request.query_params.get("fragment", "")
    values = {**context, "path": request.url.path}
    if fragment in found.blocks:
        html = "".join(found.blocks[fragment](found.new_context(values)))
    else:
        html = found.render(values)
    return HTMLResponse(html, status, HEADERS)


@cache
def templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # Most texts come from projects: none of them brings control characters onto a page.
        finalize=lambda value: words.plain(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "when": when,
        "took": took,
        "utc": utc,
        "pretty": pretty,
        "exact": words.exact,
        "clock": lambda moment: to_rfc3339(moment)[11:23],
        "size": size,
        "word": word_of,
    }
    environment.globals["plural"] = plural
    environment.globals["static"] = _static_address
    return environment


def _static_address(name: str) -> str:
    return f"/static/{name}?v={static_files()[name].version}"


def utc(moment: int) -> str:
    return f"{to_rfc3339(moment)[:19].replace('T', ' ')} UTC"


@jinja2.pass_context
def when(context: jinja2.runtime.Context, moment: int | None) -> Markup:
    """A moment, relative to the page's ``now``, with the exact one as title."""
    if moment is None:
        return Markup('<span class="none">–</span>')
    ago = words.age((context["now"] - moment) / SECOND)
    exactly = to_rfc3339(moment)
    return Markup('<time datetime="{}" title="{}" data-ago>{}</time>').format(exactly, utc(moment), ago)


@jinja2.pass_context
def took(context: jinja2.runtime.Context, started: int | None, finished: int | None) -> Markup:
    """The time between two moments; without an end to now, and the script counts on."""
    if started is None:
        return Markup('<span class="none">–</span>')
    lasted = words.exact(((finished or context["now"]) - started) / SECOND)
    if finished is None:
        return Markup('<span class="num" data-since="{}">{}</span>').format(to_rfc3339(started), lasted)
    return Markup('<span class="num">{}</span>').format(lasted)


def pretty(text: str) -> str:
    """JSON text with indents; cut where it is too long for a page."""
    try:
        shown = msgspec.json.format(text, indent=2 if len(text) > 60 else -1)
    except msgspec.DecodeError:
        shown = text
    return shown if len(shown) <= LONGEST_TEXT else shown[:LONGEST_TEXT] + "\n…"


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "–"
    return f"{count / 1024**2:.0f} MiB" if count >= 1024**2 else f"{count / 1024:.0f} KiB"


def _read_ahead() -> None:
    """At the import, so that no request waits for the disk."""
    static_files()
    for name in templates().list_templates():
        templates().get_template(name)


_read_ahead()
