"""Which build is live: published, held, rolled back, promoted, resumed; as operations of the writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deferlite.model.build import Build, BuildState, Trigger
from deferlite.model.changes import Changes, Commit, Finding, compare
from deferlite.model.environment import EnvironmentConfig, EnvironmentState
from deferlite.model.errors import BuildError, Conflict, NotFound
from deferlite.model.events import BuildPublished
from deferlite.model.execution import encode_json
from deferlite.model.function import Manifest
from deferlite.store.breaking import Counted, find
from deferlite.store.building import read, read_manifest, succeed, told
from deferlite.store.publishing import heirs_of, known_specs, replace_functions, stop_cron
from deferlite.store.rows import decode_config
from deferlite.store.statements import BUILDS as SQL
from deferlite.store.writer import Transaction


class _Home(NamedTuple):
    """The environment that a build is for."""

    state: str
    config: EnvironmentConfig
    live: str | None
    pinned: bool
    pinned_over: int


def publish(
    transaction: Transaction,
    *,
    build_id: str,
    manifest: Manifest,
    builder: str,
    commits: Sequence[Commit],
    more_commits: int,
    counted: Counted,
) -> Build:
    build = read(transaction, build_id)
    home = _home(transaction, build.environment)
    findings = _findings(transaction, home, build.environment, manifest, counted)
    held = bool(findings) and home.config.build.breaking == "hold"
    succeed(
        transaction,
        build=build,
        manifest=manifest,
        builder=builder,
        changes=_changes(transaction, home.live, build, manifest, tuple(commits), more_commits),
        findings=findings,
        held=held,
    )
    if not held and _may_go_live(transaction, home, build):
        kept = home.pinned and build.trigger is Trigger.SETTINGS
        pinned = kept or _holds(transaction, build)
        over = home.pinned_over if kept else build.number
        _switch(transaction, home, build, manifest, findings, pinned=pinned, over=over)
    return told(transaction, build_id)


def rollback(transaction: Transaction, *, environment: str, build_id: str | None, counted: Counted) -> Build:
    home = _home(transaction, environment)
    missing = f'environment "{environment}" has no good build before the live one'
    build = _good(transaction, environment, build_id or _target(transaction, "before_live", environment, missing))
    if build.held:
        raise Conflict(f"{_name(build)} is held: make it live with deferlite promote")
    over = transaction.all(SQL["newest_number"], (environment,))[0][0]
    return _go_live(transaction, home, build, counted, pinned=True, over=over)


def promote(transaction: Transaction, *, environment: str, build_id: str | None, counted: Counted) -> Build:
    home = _home(transaction, environment)
    missing = f'environment "{environment}" has no held build'
    build = _good(transaction, environment, build_id or _target(transaction, "newest_held", environment, missing))
    if not build.held:
        raise Conflict(f"{_name(build)} is not held: make it live with deferlite rollback")
    return _go_live(transaction, home, build, counted, pinned=_holds(transaction, build), over=build.number)


def resume(transaction: Transaction, *, environment: str, build_id: str | None, counted: Counted) -> Build:
    home = _home(transaction, environment)
    if not home.pinned:
        raise Conflict(f'nothing holds environment "{environment}" on a build: it follows its commits')
    missing = f'environment "{environment}" has no good build of the commits it follows'
    build = read(transaction, build_id or _target(transaction, "newest_good", environment, missing))
    return _go_live(transaction, home, build, counted, pinned=False, over=0)


def _go_live(
    transaction: Transaction, home: _Home, build: Build, counted: Counted, *, pinned: bool, over: int
) -> Build:
    if home.state == EnvironmentState.RETIRED:
        raise Conflict(f'environment "{build.environment}" is retired: nothing of it runs')
    if (build.id,) not in transaction.all(SQL["in_use"], {"environment": build.environment}):
        again = f"deferlite build {build.environment}" + (f" --commit {build.commit[:12]}" if build.commit else "")
        raise Conflict(f"the files of {_name(build)} are not kept any more: build it again with {again}")
    manifest = read_manifest(transaction, build.id)
    findings = _findings(transaction, home, build.environment, manifest, counted)
    _switch(transaction, home, build, manifest, findings, pinned=pinned, over=over)
    return told(transaction, build.id)


def _switch(
    transaction: Transaction,
    home: _Home,
    build: Build,
    manifest: Manifest,
    findings: Sequence[Finding],
    *,
    pinned: bool,
    over: int,
) -> None:
    """``over``: no build up to this number may end what ``pinned`` begins."""
    environment = build.environment
    where = {"id": build.id, "environment": environment, "now": transaction.now}
    transaction.run(SQL["switch"], where | {"pinned": int(pinned), "over": over})
    transaction.run(SQL["went_live"], {"id": build.id, "findings": encode_json(findings)})
    try:
        replace_functions(transaction, environment, home.config, manifest.functions)
    except (ValueError, TypeError) as error:
        raise BuildError(str(error)) from None
    if home.state == EnvironmentState.RETIRED:
        stop_cron(transaction, environment)
    transaction.publish(BuildPublished(environment=environment, build_id=build.id))


def _may_go_live(transaction: Transaction, home: _Home, build: Build) -> bool:
    """A rollback holds until the next commit: what was asked for before it is none, and new settings are none."""
    if home.live is None or not home.pinned:
        return True
    if build.trigger is Trigger.SETTINGS:
        return build.commit == read(transaction, home.live).commit
    return build.number > home.pinned_over


def _holds(transaction: Transaction, build: Build) -> bool:
    """Whether it is a person's build of a commit that is not the one followed: it stays until the next one."""
    return build.trigger is Trigger.MANUAL and bool(transaction.all(SQL["aside"], (build.id,))[0][0])


def _changes(
    transaction: Transaction,
    live: str | None,
    build: Build,
    manifest: Manifest,
    commits: tuple[Commit, ...],
    more_commits: int,
) -> Changes | None:
    if live is None:
        return None
    became = heirs_of(manifest.functions, known_specs(transaction, build.environment))
    return Changes(
        since=read(transaction, live).number,
        commits=commits,
        more_commits=more_commits,
        functions=compare(read_manifest(transaction, live), manifest, became),
    )


def _findings(
    transaction: Transaction, home: _Home, environment: str, manifest: Manifest, counted: Counted
) -> tuple[Finding, ...]:
    if home.live is None or home.config.build.breaking == "ignore":
        return ()
    return find(transaction, environment, manifest, counted)


def _target(transaction: Transaction, query: str, environment: str, missing: str) -> str:
    row = transaction.one(SQL[query], {"environment": environment})
    if row is None:
        raise Conflict(missing)
    return str(row[0])


def _good(transaction: Transaction, environment: str, build_id: str) -> Build:
    """A good build that is not live."""
    build = read(transaction, build_id)
    if build.environment != environment:
        raise NotFound(f'environment "{environment}" has no build "{build_id}"')
    if build.live or build.state is not BuildState.SUCCEED:
        reason = "is live already" if build.live else f'is "{build.state}"; only a good build can go live'
        raise Conflict(f"{_name(build)} {reason}")
    return build


def _name(build: Build) -> str:
    return f"build {build.number} of {build.environment}"


def _home(transaction: Transaction, environment: str) -> _Home:
    row = transaction.one(SQL["environment"], (environment,))
    if row is None:
        raise NotFound(f'there is no environment "{environment}"')
    state, config, live, pinned, over = row
    if config is None:
        raise Conflict("the environment's file has never been good: mend it")
    return _Home(state, decode_config(config), live, bool(pinned), over)
