"""How commands fail: a sentence on stderr and one of the contract's exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import click

from deferlite.web import words


class Failure(click.ClickException):
    """It failed: exit 1."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.secho(f"deferlite: {words.plain(self.message)}", fg="red", err=True)


class NoServer(Failure):
    """No server answers at that home: exit 3."""

    exit_code = 3

    def __init__(self, home: Path, message: str = "") -> None:
        super().__init__(message or f"no deferlite server at {home}: start one with `deferlite serve --home {home}`")
