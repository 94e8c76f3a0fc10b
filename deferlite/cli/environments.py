"""``deferlite environments``."""

from __future__ import annotations

from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.following import state_of
from deferlite.cli.options import json_option, server_option
from deferlite.cli.output import age, print_json, print_table, say
from deferlite.web import words


@click.command()
@click.option("--retired", is_flag=True, help="Also those whose file is gone.")
@json_option
@server_option
def command(server: Server, as_json: bool, retired: bool) -> None:
    """List the environments, and under each its previews.

    Live build and queue of each. Told on stderr: what is wrong with a file, builds that are held, environments that
    stay at a build, branches that no preview has a place for.
    """
    environments = _grouped(server.get("/environments", {"retired": 1 if retired else None})["data"])
    if as_json:
        print_json(environments)
        return
    print_table(
        ("environment", "state", "live build", "commit", "queued", "running", "failed", "live since", "preview of"),
        map(_row, environments),
    )
    for environment in environments:
        for line in "\n".join(environment[key] or "" for key in ("error", "problem", "note")).split("\n"):
            if line:
                say(f"{environment['name']}: {line}")
        _tell_waiting(environment)
    if not environments:
        say(f"no environments yet: put a file into {server.home / 'environments'}, or run `deferlite init`")


def _tell_waiting(environment: dict[str, Any]) -> None:
    """What a person has to do before a newer build is live."""
    name, held = environment["name"], next((build for build in environment["last_builds"] if build["held"]), None)
    if environment["state"] == "retired":
        return
    if held:
        say(f"{name}: build #{held['number']} is held: `deferlite promote {name}` makes it live")
    if environment["pinned"] and environment["live_build"]:
        until = f"until the next commit, or `deferlite rollback {name} --resume`"
        say(f"{name}: stays at build #{environment['live_build']['number']} {until}")


def _grouped(environments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By name, the previews of an environment after it."""

    def place(environment: dict[str, Any]) -> tuple[str, bool, str]:
        preview = environment["preview"]
        return preview["of"] if preview else environment["name"], preview is not None, environment["name"]

    return sorted(environments, key=place)


def _row(environment: dict[str, Any]) -> tuple[str, ...]:
    build, counts, preview = environment["live_build"] or {}, environment["counts"], environment["preview"]
    running = counts.get("started", 0) + counts.get("aborting", 0)
    return (
        environment["name"],
        _state(environment),
        f"#{build['number']}" if build else "-",
        (build.get("commit") or "-")[:8],
        str(counts.get("created", 0)),
        str(running),
        str(counts.get("failed", 0)),
        age(build.get("finished_at")) or "-",
        f"{preview['of']} ({preview['branch']})" if preview else "-",
    )


def _state(environment: dict[str, Any]) -> str:
    newest = next(map(state_of, environment["last_builds"]), None)
    return words.environment_word(
        retired=environment["state"] == "retired",
        error=environment["error"],
        problem=environment["problem"],
        newest=newest,
        live=environment["live_build"] is not None,
        pinned=environment["pinned"],
    )
