"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deferlite.cli.client import Server
from deferlite.settings import default_home

F = TypeVar("F", bound=Callable[..., Any])
_ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\Z", re.IGNORECASE)


def home_option(command: F) -> F:
    """``--home DIR``, handed over as ``home: Path``."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="DEFERLITE_HOME",
        default=default_home,
        show_default="~/.local/share/deferlite",
        callback=lambda ctx, param, value: value.expanduser().absolute(),
        help="The server's home; also DEFERLITE_HOME.",
    )(command)


def server_option(command: F) -> F:
    """``--home DIR``, handed over as ``server: Server`` that talks to it."""
    return click.option(
        "--home",
        "server",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="DEFERLITE_HOME",
        default=default_home,
        show_default="~/.local/share/deferlite",
        callback=_connect,
        help="The server's home; also DEFERLITE_HOME.",
    )(command)


def _connect(ctx: click.Context, param: click.Parameter, value: Path) -> Server:
    return ctx.with_resource(Server(value.expanduser().absolute()))


def json_option(command: F) -> F:
    """``--json``, handed over as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def environment_of(text: str) -> str:
    """For ``type=``: the name of an environment; what cannot be one is wrong usage, and no part of an address."""
    if not _ENVIRONMENT.match(text):
        raise click.BadParameter(f"{text!r} is not the name of an environment: small letters, digits and hyphens")
    return text


def id_of(text: str) -> str:
    """For ``type=``: the id of a build or an execution; anything else is wrong usage."""
    if not _UUID.match(text):
        raise click.BadParameter(f"{text!r} is not an id: it is like 01890a5d-ac96-774b-bcce-b302099a8057")
    return text.lower()


def pair_of(text: str) -> tuple[str, str]:
    """For ``type=``: ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value
