"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deferlite.cli.client import Server
from deferlite.model.ids import InvalidId, is_environment_name, parse_id
from deferlite.settings import default_home

F = TypeVar("F", bound=Callable[..., Any])


def home_option(command: F) -> F:
    """``--home DIR``, handed over as ``home: Path``."""
    return _home("home", lambda ctx, param, value: value.expanduser().absolute())(command)


def server_option(command: F) -> F:
    """``--home DIR``, handed over as ``server: Server`` that talks to it."""
    return _home("server", lambda ctx, param, value: ctx.with_resource(Server(value.expanduser().absolute())))(command)


def _home(name: str, callback: Callable[[click.Context, click.Parameter, Path], Any]) -> Callable[[F], F]:
    return click.option(
        "--home",
        name,
        type=click.Path(path_type=Path, file_okay=False),
        envvar="DEFERLITE_HOME",
        default=default_home,
        show_default="~/.local/share/deferlite",
        callback=callback,
        help="The server's home; also DEFERLITE_HOME.",
    )


def json_option(command: F) -> F:
    """``--json``, handed over as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def environment_of(text: str) -> str:
    """For ``type=``: the name of an environment; what cannot be one is wrong usage, and no part of an address."""
    if not is_environment_name(text):
        raise click.BadParameter(f"{text!r} is not the name of an environment: small letters, digits and hyphens")
    return text


def id_of(text: str) -> str:
    """For ``type=``: the id of a build or an execution; anything else is wrong usage."""
    try:
        return parse_id(text)
    except InvalidId:
        raise click.BadParameter(f"{text!r} is not an id: it is like 01890a5d-ac96-774b-bcce-b302099a8057") from None


def pair_of(text: str) -> tuple[str, str]:
    """For ``type=``: ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value
