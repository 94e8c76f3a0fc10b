"""``deferlite init``."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import anyio
import click
import msgspec

from deferlite.cli.errors import Failure
from deferlite.cli.options import home_option
from deferlite.cli.output import say
from deferlite.model.errors import DeferliteError
from deferlite.model.ids import is_environment_name
from deferlite.sandbox.git import open_checkout
from deferlite.sandbox.refs import local_refs, tip_of
from deferlite.settings import make_home

_LONGEST_NAME = 63
_PROJECT_FILES = ("pyproject.toml", "requirements.txt", "uv.lock", "package.json", "manage.py")


class Found(msgspec.Struct, frozen=True):
    """What the folder says about itself. ``branch``: the one checked out, None where there is none."""

    repository: Path
    directory: str
    branch: str | None
    has_commit: bool


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path())
@click.option("--name", help="The environment's name; default: the folder's.")
@click.option(
    "--environments",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DEFERLITE_ENVIRONMENTS",
    help="Folder of the environment files; default HOME/environments.",
)
@home_option
def command(home: Path, environments: Path | None, name: str | None, folder: Path) -> None:
    """Write a first environment file for a git checkout.

    FOLDER is the project's folder in it, default the current one. Asks nothing, and prints the file's path.
    """
    folder = folder.resolve()
    found = anyio.run(_find, folder)
    name = _name(name or folder.name)
    environments = environments.expanduser().absolute() if environments else home / "environments"
    make_home(home, environments)
    file = environments / f"{name}.toml"
    _write(file, _content(found))
    click.echo(str(file))
    if folder != found.repository and not found.directory:
        say(f"{folder} has no project file of its own, so the whole repository is built: `directory` changes that")
    if not found.has_commit:
        say("the repository has no commit yet: the first build starts with the first commit")
    say(f"`deferlite serve --home {home}` builds it, `deferlite builds {name} --home {home}` shows how it goes")


async def _find(folder: Path) -> Found:
    top = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)
    try:
        checkout = await open_checkout(top)
    except DeferliteError as error:
        raise Failure(f"{error}; or run `deferlite init` in your project's checkout") from None
    inside = _project(folder, folder.relative_to(top).as_posix())
    try:
        tip = tip_of(await local_refs(checkout), None, str(top))
    except DeferliteError:
        return Found(top, inside, None, False)
    return Found(top, inside, tip.branch, True)


def _project(folder: Path, inside: str) -> str:
    """The project's folder in the repository; a folder without a project file is just where one happens to be."""
    is_project = any((folder / name).exists() for name in _PROJECT_FILES)
    return inside if inside != "." and is_project else ""


def _name(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].rstrip("-")
    if not is_environment_name(name):
        raise click.UsageError(f"{text!r} makes no environment's name: give one of a-z, 0-9 and - with --name")
    return name


def _content(found: Found) -> str:
    # A JSON string is a TOML basic string as well.
    lines = [f"repository = {json.dumps(str(found.repository), ensure_ascii=False)}"]
    if found.directory:
        lines.append(f"directory = {json.dumps(found.directory, ensure_ascii=False)}")
    checked_out = f', now "{found.branch}"' if found.branch else ""
    lines += [
        f'# branch = "{found.branch or "main"}"   # default: what is checked out{checked_out}',
        "# worktree = true   # build the checkout as it stands, uncommitted files too",
        "",
        "# [env]",
        '# STRIPE_KEY = "…"',
    ]
    return "\n".join(lines) + "\n"


def _write(file: Path, content: str) -> None:
    try:
        # [env] will hold secrets.
        with open(file, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
            opened.write(content)
    except FileExistsError:
        raise Failure(f"{file} is there already: edit it, or choose another name with --name") from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
