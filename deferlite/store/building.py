"""What happens to builds, as operations of the writer."""

from __future__ import annotations

from typing import Any

import msgspec

from deferlite.model.build import BUILD_TRANSITIONS, Build, BuildState, Trigger
from deferlite.model.environment import EnvironmentConfig, EnvironmentState
from deferlite.model.errors import BuildError, Conflict, NotFound
from deferlite.model.events import BuildChanged, BuildPublished, BuildRequested
from deferlite.model.function import Manifest
from deferlite.model.ids import new_id
from deferlite.store.publishing import replace_functions, stop_cron
from deferlite.store.rows import decode_config, to_build
from deferlite.store.statements import BUILDS as SQL
from deferlite.store.statements import ENVIRONMENTS
from deferlite.store.writer import Transaction

decode_manifest = msgspec.json.Decoder(Manifest).decode


def request(
    transaction: Transaction,
    *,
    environment: str,
    commit: str | None,
    branch: str | None,
    message: str,
    trigger: Trigger,
) -> Build:
    state, config, _ = _environment(transaction, environment)
    if state != EnvironmentState.ACTIVE or config is None:
        reason = "is retired: put its file back" if config else "has no good settings yet: mend its file"
        raise Conflict(f'environment "{environment}" {reason}')
    number = transaction.all(SQL["newest_number"], (environment,))[0][0] + 1
    fail_not_started(
        transaction, environment, f"overtaken by build {number} ({commit[:12] if commit else 'no commit'})"
    )
    id = new_id(transaction.now)
    transaction.run(
        SQL["insert"],
        {
            "id": id,
            "environment": environment,
            "number": number,
            "trigger": trigger.value,
            "commit": commit,
            "branch": branch,
            "message": message,
            "config": config,
            "now": transaction.now,
        },
    )
    transaction.publish(BuildRequested(environment=environment, build_id=id))
    return _told(transaction, id)


def advance(transaction: Transaction, *, build_id: str, state: BuildState) -> Build:
    build = read(transaction, build_id)
    if state not in BUILD_TRANSITIONS[build.state] or state in (BuildState.SUCCEED, BuildState.FAILED):
        raise Conflict(f'build {build.number} of {build.environment} cannot go from "{build.state}" to "{state}"')
    where: dict[str, Any] = {"id": build_id, "now": transaction.now}
    transaction.run(SQL["advance"], where | {"state": state.value, "from": build.state.value})
    transaction.run(SQL["close_step"], where)
    transaction.run(SQL["open_step"], where | {"state": state.value})
    return _told(transaction, build_id)


def fail(transaction: Transaction, *, build_id: str, error: str) -> Build:
    build = read(transaction, build_id)
    where = {"id": build_id, "now": transaction.now}
    if transaction.run(SQL["fail"], where | {"error": error}) == 0:
        raise Conflict(f'build {build.number} of {build.environment} has ended already: "{build.state}"')
    transaction.run(SQL["close_step"], where)
    return _told(transaction, build_id)


def fail_not_started(transaction: Transaction, environment: str, error: str) -> None:
    for (id,) in transaction.all(SQL["not_started"], (environment,)):
        fail(transaction, build_id=id, error=error)


def fail_cut_off(transaction: Transaction, *, reason: str) -> int:
    cut_off = transaction.all(SQL["cut_off"])
    for (id,) in cut_off:
        fail(transaction, build_id=id, error=reason)
    return len(cut_off)


def publish(transaction: Transaction, *, build_id: str, manifest: Manifest) -> Build:
    build = read(transaction, build_id)
    where = {"id": build_id, "now": transaction.now}
    text = msgspec.json.encode(manifest).decode()
    if transaction.run(SQL["succeed"], where | {"manifest": text}) == 0:
        raise Conflict(f'build {build.number} of {build.environment} cannot be published: it is "{build.state}"')
    transaction.run(SQL["close_step"], where)
    _switch(transaction, build, manifest, pinned=False)
    return _told(transaction, build_id)


def rollback(transaction: Transaction, *, environment: str, build_id: str | None) -> Build:
    _, _, live = _environment(transaction, environment)
    target = build_id or _before(transaction, environment, live)
    build = read(transaction, target)
    if build.environment != environment:
        raise NotFound(f'environment "{environment}" has no build "{target}"')
    if build.live or build.state is not BuildState.SUCCEED:
        reason = "is live already" if build.live else f'is "{build.state}"; only a good build can go live'
        raise Conflict(f"build {build.number} of {environment} {reason}")
    manifest = decode_manifest(transaction.all(SQL["manifest"], (target,))[0][0])
    _switch(transaction, build, manifest, pinned=True)
    return read(transaction, target)


def read(transaction: Transaction, build_id: str) -> Build:
    row = transaction.one(SQL["get"], (build_id,))
    if row is None:
        raise NotFound(f'cannot find build "{build_id}"')
    return to_build(row)


def _switch(transaction: Transaction, build: Build, manifest: Manifest, pinned: bool) -> None:
    environment = build.environment
    transaction.run(
        ENVIRONMENTS["switch"],
        {"name": environment, "build_id": build.id, "pinned": int(pinned), "now": transaction.now},
    )
    state, config, _ = _environment(transaction, environment)
    try:
        replace_functions(transaction, environment, _config(config), manifest.functions)
    except (ValueError, TypeError) as error:
        raise BuildError(str(error)) from None
    if state == EnvironmentState.RETIRED:
        stop_cron(transaction, environment)
    transaction.publish(BuildPublished(environment=environment, build_id=build.id))


def _before(transaction: Transaction, environment: str, live: str | None) -> str:
    row = transaction.one(SQL["before_live"], {"live": live})
    if row is None:
        raise Conflict(f'environment "{environment}" has no good build before the live one')
    return str(row[0])


def _environment(transaction: Transaction, name: str) -> tuple[str, str | None, str | None]:
    row = transaction.one(SQL["environment"], (name,))
    if row is None:
        raise NotFound(f'there is no environment "{name}"')
    return row[0], row[1], row[2]


def _config(text: str | None) -> EnvironmentConfig:
    if text is None:
        raise Conflict("the environment's file has never been good: mend it")
    return decode_config(text)


def _told(transaction: Transaction, build_id: str) -> Build:
    build = read(transaction, build_id)
    transaction.publish(BuildChanged(environment=build.environment, build_id=build_id, state=build.state))
    return build
