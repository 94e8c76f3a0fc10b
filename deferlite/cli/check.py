"""``deferlite check [FILE…]``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from deferlite.cli.errors import Failure
from deferlite.cli.options import home_option, json_option
from deferlite.cli.output import print_json, print_line, say
from deferlite.model.environment_file import ParsedFile
from deferlite.settings import Settings
from deferlite.watcher.environments import check


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
@json_option
@home_option
def command(home: Path, as_json: bool, files: tuple[Path, ...]) -> None:
    """Validate environment files.

    Without FILE all of the server's. Prints every fault with its line; exit 1 if there is one.
    """
    parsed = check(files or [_folder(home)])
    if as_json:
        print_json([_shape(file) for file in parsed])
    else:
        for file in parsed:
            _tell(file)
    if not parsed:
        say(f"there are no environment files in {_folder(home)}")
    if broken := [file for file in parsed if file.faults]:
        raise Failure(f"{len(broken)} of {len(parsed)} files have faults")


def _folder(home: Path) -> Path:
    """Where the server of this home looks: a setting of its own."""
    folder = Settings.load({"home": str(home)}, os.environ).environments
    if not folder.is_dir():
        raise Failure(f"there is no {folder}: name the files, or the right --home")
    return folder


def _tell(file: ParsedFile) -> None:
    for fault in file.faults:
        print_line(f"{file.path}:{fault.line}: {fault.key + ': ' if fault.key else ''}{fault.reason}: {fault.cure}")
    for note in file.notes:
        say(note)
    if not file.faults:
        print_line(f"{file.path}: good")


def _shape(file: ParsedFile) -> dict[str, Any]:
    faults = [{"line": f.line, "key": f.key, "reason": f.reason, "cure": f.cure} for f in file.faults]
    return {"name": file.name, "path": file.path, "good": not faults, "faults": faults, "notes": list(file.notes)}
