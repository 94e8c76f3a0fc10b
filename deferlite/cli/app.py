"""The commands by name; each is loaded only when it is asked for, so that ``enqueue`` starts quickly."""

from __future__ import annotations

import importlib
import sys

import click

from deferlite.cli.errors import Failure
from deferlite.model.errors import DeferliteError

COMMANDS = (
    "serve",
    "demo",
    "init",
    "check",
    "open",
    "doctor",
    "environments",
    "builds",
    "functions",
    "executions",
    "build",
    "rollback",
    "promote",
    "enqueue",
    "execution",
    "token",
)
"""In the order of the help. ``cli/NAME.py`` holds it as ``command``."""


class LazyGroup(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"deferlite.cli.{cmd_name}")
        command: click.Command = module.command
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="deferlite", message="%(package)s %(version)s")
def cli() -> None:
    """Background functions on one machine: mark a function, commit, and it is built, queued, retried and watched.

    Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 no server at that home.
    """


def main() -> None:
    """Run ``cli``; an error of deferlite's own is a sentence on stderr and not a traceback."""
    try:
        cli(prog_name="deferlite")
    except Exception as error:
        expected = _expected(error)
        if not expected:
            raise
        for each in expected:
            Failure(str(each)).show()
        sys.exit(Failure.exit_code)


def _expected(error: BaseException) -> list[BaseException]:
    """deferlite's own errors that ``error`` is made of (a task group wraps them); none if there is any other."""
    if isinstance(error, DeferliteError):
        return [error]
    parts = [_expected(part) for part in getattr(error, "exceptions", ())]
    return [each for part in parts for each in part] if all(parts) else []
