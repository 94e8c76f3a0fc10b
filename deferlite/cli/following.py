"""What commands tell of a build: its log and stages as they come, what it changed, what it breaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.errors import Failure, NoServer
from deferlite.cli.output import Underway, lasted, print_json, print_log, say
from deferlite.model.build import build_word
from deferlite.model.words import plural
from deferlite.web import words

_TAIL = 20


def state_of(build: dict[str, Any]) -> str:
    """What became of it, in one word."""
    return build_word(build["state"], build["live"], build["held"], build["error"])


def name_of(build: dict[str, Any]) -> str:
    return f"build #{build['number']} of {build['environment']}"


def short(build: dict[str, Any]) -> str:
    return (build["commit"] or "no commit")[:8]


def stage_line(stage: str, took: str) -> str:
    return f"{stage:<12}{took}"


def print_build_log(server: Server, build: dict[str, Any], *, follow: bool, as_json: bool = False) -> None:
    """Print the log of ``build``, as the server told of it; with ``follow`` until it has ended.

    Raises:
        Failure: the build it followed failed; not for one that had ended before.
    """
    path = f"/builds/{build['id']}"
    print_log(server.lines(f"{path}/logs", {"follow": 1 if follow else None}), as_json)
    if follow and not build["finished_at"]:
        refuse_failed(server.get(path)["data"])


def wait_for(server: Server, build: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Follow ``build`` to its end and return it: its log on stdout, stages on stderr; ``quiet``: the stages alone.

    When it fails, a quiet one shows the last lines of the stage that failed.

    Raises:
        NoServer: the server went away; Failure: the one who waits did not want to any more.
    """
    path, number = f"/builds/{build['id']}", f"{build['environment']}#{build['number']}"
    told = _Told()
    coming = server.lines(f"{path}/logs", {"follow": 1, "stages": 1})
    try:
        with Underway(lambda: _underway(server.get(path)["data"])) as line, closing(line.giving_way(coming)) as lines:
            if quiet:
                deque(told.without_stages(lines), maxlen=0)
            else:
                print_log(told.without_stages(lines), as_json=False)
        build = server.get(path)["data"]
    except NoServer:
        what = (
            f"stopped before {name_of(build)} had ended: `deferlite builds show {number}` tells of it once it is back"
        )
        raise NoServer(server.home, f"the server at {server.home} {what}") from None
    except KeyboardInterrupt:
        cures = f"`deferlite builds logs {number}` follows it, `deferlite build cancel {number}` ends it"
        raise Failure(f"not waited for: {name_of(build)} goes on: {cures}") from None
    if quiet and build["state"] == "failed":
        _tell_tail(told.tail, build["error"])
    return build


def _underway(build: dict[str, Any]) -> str:
    if not build["steps"]:
        return "waits for its turn"
    return f"{build['state']}, {lasted(build['steps'][-1]['started_at'], None)}"


class _Told:
    """Tells of the stages in a log, and keeps the last lines of the one that came last."""

    def __init__(self) -> None:
        self._tails: deque[deque[str]] = deque([deque(maxlen=_TAIL)], maxlen=2)

    @property
    def tail(self) -> list[str]:
        before, last = self._tails[0], self._tails[-1]
        return list(last or before)

    def without_stages(self, lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if "stage" in line:
                click.secho(stage_line(line["stage"], words.exact(line["seconds"])), err=True, bold=True)
                self._tails.append(deque(maxlen=_TAIL))
            else:
                self._tails[-1].append(words.plain(line["text"]))
                yield line


def _tell_tail(lines: list[str], error: str) -> None:
    # A command's error shows its last lines itself.
    said = error.splitlines()
    for line in lines:
        if line.strip() and line not in said:
            say(f"  {line}")


def refuse_failed(build: dict[str, Any]) -> None:
    """Raises Failure for a build that failed."""
    if build["state"] == "failed":
        what = f"failed: {build['error']}" if state_of(build) == "failed" else f"was {build['error']}"
        raise Failure(f"{name_of(build)} {what}")


def tell_outcome(build: dict[str, Any]) -> None:
    """What became of a build that has ended well.

    Raises:
        Failure: it is held; what was asked for does not serve.
    """
    if build["held"]:
        tell_findings(build)
        cure = f"`deferlite promote {build['environment']}` makes it live"
        raise Failure(f"{name_of(build)} is held and not live: {cure}")
    if build["live"]:
        say(f"{build['environment']} is live on build #{build['number']} ({short(build)})")
    else:
        say(f"{name_of(build)} is good, and another build is live by now")
    tell_findings(build)


def tell_findings(build: dict[str, Any]) -> None:
    """What it breaks of the executions that wait, as warnings."""
    for finding in build["findings"]:
        _warn(finding_line(finding))


def finding_line(finding: dict[str, Any]) -> str:
    return f"{finding['function']}, {plural(finding['executions'], 'execution')}: {finding['reason']}"


def change_lines(build: dict[str, Any]) -> Iterator[str]:
    """What a build changed: a line for each commit and each function."""
    changes = build["changes"] or {}
    for commit in changes.get("commits", ()):
        yield f"{commit['id'][:8]}  {commit['subject']}" + (f"  ({commit['author']})" if commit["author"] else "")
    if more := changes.get("more_commits"):
        yield f"and {plural(more, 'commit')} before"
    for each in changes.get("functions", ()):
        before, after = each.get("before", ""), each.get("after", "")
        yield f"{each['kind']:<10}{each['name']}" + (f"  {before} -> {after}" if before or after else "")


def _warn(text: str) -> None:
    click.secho(f"warning: {words.plain(text)}", fg="yellow", err=True)


def make_live(server: Server, environment: str, how: str, body: dict[str, object], as_json: bool) -> None:
    """Ask for ``how`` (promote or rollback), and tell which build is live after it, and what it breaks."""
    live = server.post(f"/environments/{environment}/{how}", body)["data"]
    print_json(live) if as_json else click.echo(live["id"])
    say(f"{environment} is live on build #{live['number']} ({short(live)})")
    tell_findings(live)
