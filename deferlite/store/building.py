"""What happens to builds until they have ended, as operations of the writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from deferlite.model.build import BUILD_TRANSITIONS, CANCELLED, Build, BuildState, Trigger, overtaken_by, word_of
from deferlite.model.changes import Changes, Finding
from deferlite.model.environment import EnvironmentConfig, EnvironmentState
from deferlite.model.errors import Conflict, NotFound
from deferlite.model.events import BuildCancelRequested, BuildChanged, BuildRequested
from deferlite.model.execution import encode_json
from deferlite.model.function import Manifest
from deferlite.model.ids import new_id
from deferlite.store.rows import decode_config, to_build
from deferlite.store.statements import BUILDS as SQL
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
    row = transaction.one(SQL["environment"], (environment,))
    if row is None:
        raise NotFound(f'there is no environment "{environment}"')
    state, config = row[:2]
    if state != EnvironmentState.ACTIVE or config is None:
        reason = "is retired: put its file back" if config else "has no good settings yet: mend its file"
        raise Conflict(f'environment "{environment}" {reason}')
    aside = _is_aside(transaction, environment, decode_config(config), trigger, commit)
    number = transaction.all(SQL["newest_number"], (environment,))[0][0] + 1
    fail_not_started(transaction, environment, overtaken_by(number, commit or "no commit"), aside=aside)
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
            "aside": int(aside),
        },
    )
    transaction.publish(BuildRequested(environment=environment, build_id=id))
    return told(transaction, id)


def advance(transaction: Transaction, *, build_id: str, state: BuildState, builder: str | None = None) -> Build:
    build = read(transaction, build_id)
    if state not in BUILD_TRANSITIONS[build.state] or state in (BuildState.SUCCEED, BuildState.FAILED):
        raise Conflict(f'build {build.number} of {build.environment} cannot go from "{build.state}" to "{state}"')
    where: dict[str, Any] = {"id": build_id, "now": transaction.now}
    transaction.run(SQL["advance"], where | {"state": state.value, "from": build.state.value, "builder": builder})
    transaction.run(SQL["close_step"], where)
    transaction.run(SQL["open_step"], where | {"state": state.value})
    return told(transaction, build_id)


def describe(transaction: Transaction, *, build_id: str, message: str) -> Build:
    transaction.run(SQL["describe"], {"id": build_id, "message": message})
    return told(transaction, build_id)


def fail(transaction: Transaction, *, build_id: str, error: str) -> Build:
    build = read(transaction, build_id)
    where = {"id": build_id, "now": transaction.now}
    if transaction.run(SQL["fail"], where | {"error": error}) == 0:
        raise Conflict(f'build {build.number} of {build.environment} has ended already: "{word_of(build)}"')
    transaction.run(SQL["close_step"], where)
    return told(transaction, build_id)


def fail_not_started(transaction: Transaction, environment: str, error: str, aside: bool = False) -> None:
    """With ``aside`` only builds that were asked for aside: one of them does not stand for the followed commit."""
    for (id,) in transaction.all(SQL["not_started"], {"environment": environment, "aside": int(aside)}):
        fail(transaction, build_id=id, error=error)


def fail_cut_off(transaction: Transaction, *, reason: str) -> int:
    cut_off = transaction.all(SQL["cut_off"])
    for (id,) in cut_off:
        fail(transaction, build_id=id, error=reason)
    return len(cut_off)


def succeed(
    transaction: Transaction,
    *,
    build: Build,
    manifest: Manifest,
    builder: str,
    changes: Changes | None,
    findings: Sequence[Finding],
    held: bool,
) -> None:
    """It is good; whether it goes live is another matter. Raises Conflict unless it is in state publishing."""
    where = {"id": build.id, "now": transaction.now}
    columns = {
        "manifest": encode_json(manifest),
        "builder": builder,
        "changes": None if changes is None else encode_json(changes),
        "findings": encode_json(findings),
        "held": int(held),
    }
    if transaction.run(SQL["succeed"], where | columns) == 0:
        raise Conflict(f'build {build.number} of {build.environment} cannot be published: it is "{build.state}"')
    transaction.run(SQL["close_step"], where)


def let_go(transaction: Transaction, *, environment: str, live_too: bool) -> set[str]:
    row = transaction.one(SQL["environment"], (environment,))
    if row is None:
        raise NotFound(f'there is no environment "{environment}"')
    state, _, live = row[:3]
    retired = state == EnvironmentState.RETIRED
    used = {row[0] for row in transaction.all(SQL["in_flight" if retired else "in_use"], {"environment": environment})}
    if live is not None and not live_too:
        used.add(live)
    transaction.run(SQL["let_go"], {"environment": environment, "used": encode_json(sorted(used))})
    return used


def cancel(transaction: Transaction, *, build_id: str) -> Build:
    build = read(transaction, build_id)
    if build.state is BuildState.CREATED:
        return fail(transaction, build_id=build_id, error=CANCELLED)
    if build.finished_at is not None:
        raise Conflict(f'build {build.number} of {build.environment} has ended already: "{word_of(build)}"')
    transaction.publish(BuildCancelRequested(environment=build.environment, build_id=build_id))
    return build


def read(transaction: Transaction, build_id: str) -> Build:
    row = transaction.one(SQL["get"], (build_id,))
    if row is None:
        raise NotFound(f'cannot find build "{build_id}"')
    return to_build(row)


def read_manifest(transaction: Transaction, build_id: str) -> Manifest:
    """Of a build that has succeeded."""
    return decode_manifest(transaction.all(SQL["manifest"], (build_id,))[0][0])


def told(transaction: Transaction, build_id: str) -> Build:
    """The build as it is now, which everybody is told of."""
    build = read(transaction, build_id)
    transaction.publish(BuildChanged(environment=build.environment, build_id=build_id, state=build.state))
    return build


def _is_aside(
    transaction: Transaction, environment: str, config: EnvironmentConfig, trigger: Trigger, commit: str | None
) -> bool:
    """Whether it is asked for though its commit is not the one that is followed: by a person, or to replace files."""
    if trigger not in (Trigger.MANUAL, Trigger.SETTINGS) or config.worktree:
        return False
    row = transaction.one(SQL["newest_followed"], (environment,))
    return row is not None and to_build(row).commit != commit
