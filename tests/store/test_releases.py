"""Which build is live: findings, holding, promoting, rolling back, resuming."""

from __future__ import annotations

from typing import Any

import pytest

from deferlite.model.build import CANCELLED, BuildState, Trigger
from deferlite.model.changes import Changes, Commit, FunctionChange
from deferlite.model.clock import SECOND
from deferlite.model.environment import BuildSettings, EnvironmentConfig
from deferlite.model.errors import Conflict, NotFound
from deferlite.model.events import BuildCancelRequested, BuildChanged, BuildPublished
from deferlite.model.execution import NewExecution, State

pytestmark = pytest.mark.anyio

COMMITS = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)


async def apply(world: Any, breaking: str = "warn", **fields: Any) -> None:
    config = EnvironmentConfig(repository="/r", build=BuildSettings(breaking=breaking), **fields)
    await world.store.environments.apply("shop", config, "shop.toml")


async def manual(world: Any, commit: str, *specs: Any) -> Any:
    """A build that a person asks for, published."""
    build = await world.store.builds.request("shop", commit=commit, branch=None, message="", trigger=Trigger.MANUAL)
    await world.to_publishing(build)
    return await world.store.builds.publish(build.id, world.manifest(*specs))


async def live_number(world: Any) -> tuple[int, bool]:
    environment = await world.store.environments.get("shop")
    return (await world.store.builds.get(environment.live_build_id)).number, environment.pinned


async def thousand(world: Any) -> list[str]:
    """1,000 executions of ``send``, a tenth of them delayed."""
    later = world.clock.now() + 60 * SECOND
    items = [
        NewExecution(function_name="send", arguments="[1]", scheduled_at=None if n % 10 else later) for n in range(1000)
    ]
    return [row.id for row in await world.store.executions.enqueue("shop", items)]


async def states(world: Any, ids: list[str]) -> dict[tuple[State, str], int]:
    found: dict[tuple[State, str], int] = {}
    for id in ids:
        row = await world.store.executions.get("shop", id)
        found[row.state, row.function_name] = found.get((row.state, row.function_name), 0) + 1
    return found


async def test_a_rename_under_warn_goes_live_and_says_what_it_breaks(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("send", takes="to"))
    ids = await thousand(world)
    build = await world.publish(make_spec("mail", takes="to"))
    (finding,) = build.findings
    assert (build.live, build.held) == (True, False)
    assert (finding.kind, finding.function, finding.executions) == ("gone", "send", 1000)
    assert 'aliases=["send"]' in finding.reason
    assert finding.example == ids[0]
    assert await states(world, ids) == {(State.FAILED, "send"): 900, (State.CREATED, "send"): 100}
    await world.check_counters()
    world.clock.advance(61)
    await world.store.executions.promote(world.clock.now())
    assert await states(world, ids) == {(State.FAILED, "send"): 1000}
    assert (await world.store.executions.attempts(ids[0])).items == ()
    result = await world.store.executions.result(ids[0])
    assert "build 2 removed or renamed it" in result and "aliases=[" in result
    await world.check_counters()


async def test_a_rename_under_hold_waits_until_it_is_promoted(world: Any, make_spec: Any) -> None:
    await apply(world, "hold")
    await world.publish(make_spec("send", takes="to"))
    ids = await thousand(world)
    held = await world.publish(make_spec("mail", takes="to"))
    assert (held.state, held.live, held.held) == (BuildState.SUCCEED, False, True)
    assert world.heard(BuildPublished)[-1].build_id != held.id
    assert world.heard(BuildChanged)[-1].state is BuildState.SUCCEED
    assert await live_number(world) == (1, False)
    assert [row.name for row in await world.store.functions.list("shop") if row.active] == ["send"]
    assert await states(world, ids) == {(State.CREATED, "send"): 1000}
    assert held.id in await world.store.builds.in_use("shop")
    promoted = await world.store.builds.promote("shop", None)
    assert (promoted.id, promoted.live, promoted.held, len(promoted.findings)) == (held.id, True, False, 1)
    assert await live_number(world) == (2, False)
    assert await states(world, ids) == {(State.FAILED, "send"): 900, (State.CREATED, "send"): 100}
    await world.check_counters()


@pytest.mark.parametrize("breaking", ["warn", "hold", "ignore"])
async def test_a_rename_with_an_alias_breaks_nothing(world: Any, make_spec: Any, breaking: str) -> None:
    await apply(world, breaking)
    await world.publish(make_spec("send", takes="to"))
    ids = await thousand(world)
    build = await world.publish(make_spec("mail", takes="to", aliases=["send"]))
    assert (build.live, build.findings) == (True, ())
    assert await states(world, ids) == {(State.CREATED, "mail"): 1000}
    await world.check_counters()
    await world.store.builds.rollback("shop", None)
    assert await states(world, ids) == {(State.CREATED, "send"): 1000}
    await world.check_counters()


async def test_ignore_looks_at_nothing(world: Any, make_spec: Any) -> None:
    await apply(world, "ignore")
    await world.publish(make_spec("send"))
    await world.enqueue("send")
    build = await world.publish(make_spec("mail"))
    assert (build.live, build.findings) == (True, ())


async def test_arguments_are_counted_by_their_shape(world: Any, make_spec: Any) -> None:
    await apply(world, "hold")
    await world.publish(make_spec("send", takes="to text=None"), make_spec("same", takes="x"))
    for _ in range(3):
        await world.enqueue("send", arguments='["a", "b"]')
    await world.enqueue("send", arguments='["a"]', keyword_arguments='{"text": "b"}')
    await world.enqueue("send", keyword_arguments='{"text": "b", "to": "a"}')
    fits = await world.enqueue("send", arguments='["a"]')
    await world.enqueue("same", arguments="[1, 2, 3]")
    build = await world.publish(make_spec("send", takes="to body=None"), make_spec("same", takes="x"))
    assert build.held
    (finding,) = build.findings
    cure = "let it take the former calls, too, until they have run"
    assert finding.reason == f'send(to, body=None) has no parameter "text": {cure}'
    assert (finding.kind, finding.function, finding.executions) == ("arguments", "send", 2)
    build = await world.publish(make_spec("send", takes="to", aliases=["mail"]), make_spec("same", takes="x"))
    assert [(each.executions, each.reason.partition(":")[0]) for each in build.findings] == [
        (3, "send(to) takes 1 argument and 2 are queued"),
        (2, 'send(to) has no parameter "text"'),
    ]
    assert fits.id not in {each.example for each in build.findings}
    # What a build takes over must fit as well.
    build = await world.publish(make_spec("mail", takes="", aliases=["send"]), make_spec("same", takes="x"))
    assert {each.function for each in build.findings} == {"send"}
    assert sum(each.executions for each in build.findings) == 6


async def test_what_did_not_fit_before_is_not_found_again(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("send", takes="to"))
    await world.enqueue("send", arguments='["a"]', scheduled_at=world.clock.now() + 60 * SECOND)
    assert (await world.publish(make_spec("send", takes="to text"))).findings != ()
    await apply(world, "hold")
    assert (await world.publish(make_spec("send", takes="to text copy"))).live


async def test_a_rename_without_an_alias_is_told_by_its_place_in_the_code(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("send"))
    await world.enqueue("send")
    build = await world.publish(make_spec("mail", attribute="send"))
    assert [each.reason for each in build.findings] == ['it is called "mail" now: give that aliases=["send"]']
    assert build.changes.functions[0].kind == "renamed"


async def test_arguments_that_sqlite_cannot_read_stop_no_build(world: Any, make_spec: Any) -> None:
    await apply(world, "hold")
    await world.publish(make_spec("send", takes="to"))
    await world.enqueue("send", arguments="[" * 5000 + "]" * 5000)
    await world.enqueue("send", keyword_arguments='{"to": ' + "[" * 5000 + "]" * 5000 + "}")
    assert (await world.publish(make_spec("send", takes=""))).live


async def test_what_was_enqueued_after_the_reader_counted_is_counted_too(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("send", takes="to"))
    await world.enqueue("send", arguments='["a"]')
    build = await world.request()
    await world.to_publishing(build)
    rows = world.store.builds._database.rows

    async def rows_then_enqueue(sql: str, parameters: Any = ()) -> Any:
        found = await rows(sql, parameters)
        if "json_each(keyword_arguments)" in sql:
            await world.enqueue("send", arguments='["b"]')
        return found

    world.store.builds._database.rows = rows_then_enqueue
    published = await world.store.builds.publish(build.id, world.manifest(make_spec("send", takes="")))
    assert [each.executions for each in published.findings] == [2]


async def test_what_no_build_has_had_for_long_is_not_found_again(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("send"))
    await world.enqueue("send", scheduled_at=world.clock.now() + 60 * SECOND)
    assert (await world.publish(make_spec("a"))).findings != ()
    await apply(world, "hold")
    assert (await world.publish(make_spec("a"), make_spec("b"))).live


async def test_a_build_says_what_it_changes(world: Any, make_spec: Any) -> None:
    await apply(world)
    first = await world.publish(make_spec("send"), make_spec("gone"))
    build = await world.request(commit="b" * 40)
    await world.to_publishing(build)
    commits = [Commit(id="b" * 40, subject="Rename", author="Ann", at=7)]
    manifest = world.manifest(make_spec("mail", aliases=["send"]))
    found = await world.store.builds.publish(build.id, manifest, builder="1.2", commits=commits, more_commits=3)
    assert (first.changes, found.builder) == (None, "1.2")
    assert found.changes == Changes(
        since=1,
        commits=tuple(commits),
        more_commits=3,
        functions=(
            FunctionChange(kind="removed", name="gone"),
            FunctionChange(kind="renamed", name="mail", before="send", after="mail"),
        ),
    )
    assert await world.store.builds.get(build.id) == found


async def test_the_newest_held_one_is_promoted_and_a_good_one_after_it_ends_that(world: Any, make_spec: Any) -> None:
    await apply(world, "hold")
    good = await world.publish(make_spec("send"))
    await world.enqueue("send")
    older, newer = await world.publish(make_spec("a")), await world.publish(make_spec("b"))
    assert [build.held for build in await world.store.builds.list("shop")] == [True, True, False]
    fixed = await world.publish(make_spec("c", aliases=["send"]))
    assert fixed.live
    assert [build.held for build in await world.store.builds.list("shop")] == [False] * 4
    promote = world.store.builds.promote
    with pytest.raises(Conflict, match='"shop" has no held build'):
        await promote("shop", None)
    with pytest.raises(Conflict, match=f"build {older.number} of shop is not held: .*rollback"):
        await promote("shop", older.id)
    # A build that was never live is not what a rollback without a name goes to.
    assert (await world.store.builds.rollback("shop", None)).id == good.id
    assert (await world.store.builds.resume("shop")).id == fixed.id
    assert newer.held


async def test_what_cannot_be_promoted(world: Any, make_spec: Any) -> None:
    await apply(world, "hold")
    await world.publish(make_spec("send"))
    await world.enqueue("send")
    held = await world.publish(make_spec("a"))
    with pytest.raises(Conflict, match="build 2 of shop is held: make it live with deferlite promote"):
        await world.store.builds.rollback("shop", held.id)
    with pytest.raises(NotFound):
        await world.store.builds.promote("shop", "unknown")
    with pytest.raises(NotFound):
        await world.store.builds.promote("unknown", None)
    failed = await world.request()
    await world.store.builds.fail(failed.id, "no")
    with pytest.raises(Conflict, match='is "failed"'):
        await world.store.builds.promote("shop", failed.id)


async def test_held_builds_keep_as_many_files_as_good_ones(world: Any, make_spec: Any) -> None:
    await apply(world, "hold", retention_builds=2)
    first = await world.publish(make_spec("send"))
    good = [first, await world.publish(make_spec("send"))]
    await world.enqueue("send")
    held = [await world.publish(make_spec("a")) for _ in range(3)]
    assert await world.store.builds.in_use("shop") == {build.id for build in [*good, *held[1:]]}
    with pytest.raises(Conflict, match=r"files of build 3 of shop are not kept .*--commit cccccccccccc"):
        await world.store.builds.promote("shop", held[0].id)


async def test_a_rollback_says_what_it_breaks(world: Any, make_spec: Any) -> None:
    await apply(world, "hold")
    await world.publish(make_spec("send"))
    await world.publish(make_spec("send"), make_spec("fresh"))
    await world.enqueue("fresh")
    back = await world.store.builds.rollback("shop", None)
    assert back.live
    assert [(each.kind, each.function) for each in back.findings] == [("gone", "fresh")]
    assert (await world.store.builds.get(back.id)).findings == back.findings


async def test_a_rollback_holds_until_the_next_commit(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("a"))
    await world.publish(make_spec("b"))
    running = await world.request(commit="d" * 40)
    await world.to_publishing(running)
    await world.store.builds.rollback("shop", None)
    # It was asked for before the rollback.
    late = await world.store.builds.publish(running.id, world.manifest(make_spec("c")))
    assert (late.state, late.live, late.held) == (BuildState.SUCCEED, False, False)
    assert await live_number(world) == (1, True)
    settings = await world.store.builds.request(
        "shop", commit="d" * 40, branch=None, message="", trigger=Trigger.SETTINGS
    )
    await world.to_publishing(settings)
    assert not (await world.store.builds.publish(settings.id, world.manifest(make_spec("c")))).live
    assert (await world.publish(make_spec("d"), commit="e" * 40)).live
    assert await live_number(world) == (5, False)
    with pytest.raises(Conflict, match='nothing holds environment "shop"'):
        await world.store.builds.resume("shop")


async def test_resume_takes_the_newest_good_one(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("a"))
    second = await world.publish(make_spec("b"))
    await world.store.builds.rollback("shop", None)
    world.events.clear()
    resumed = await world.store.builds.resume("shop")
    assert (resumed.id, resumed.live) == (second.id, True)
    assert world.heard(BuildPublished) == [BuildPublished(environment="shop", build_id=second.id)]
    assert await live_number(world) == (2, False)
    with pytest.raises(NotFound):
        await world.store.builds.resume("unknown")


async def test_a_resume_where_there_is_nothing_newer_only_ends_the_hold(world: Any, make_spec: Any) -> None:
    await apply(world)
    first = await world.publish(make_spec("a"), commit=COMMITS[0])
    aside = await manual(world, COMMITS[3], make_spec("b"))
    assert (aside.live, await live_number(world)) == (True, (2, True))
    assert (await world.store.builds.rollback("shop", first.id)).live
    assert await live_number(world) == (1, True)
    assert (await world.store.builds.resume("shop")).id == first.id
    assert await live_number(world) == (1, False)


async def test_a_build_of_another_commit_holds_like_a_rollback(world: Any, make_spec: Any) -> None:
    await apply(world)
    followed = await world.publish(make_spec("a"), commit=COMMITS[1])
    aside = await manual(world, COMMITS[0], make_spec("b"))
    assert await live_number(world) == (2, True)
    assert (await world.store.builds.newest_followed("shop")).id == followed.id
    assert (await world.store.builds.resume("shop")).id == followed.id
    same = await manual(world, COMMITS[1], make_spec("a"))
    assert await live_number(world) == (3, False)
    assert (await world.store.builds.newest_followed("shop")).id == same.id
    assert {aside.id, followed.id} <= await world.store.builds.in_use("shop")
    assert await world.store.builds.newest_followed("unknown") is None


async def test_a_build_of_another_commit_does_not_stand_for_the_followed_one(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("a"), commit=COMMITS[0])
    waiting = await world.request(commit=COMMITS[1])
    aside = await world.store.builds.request("shop", commit=COMMITS[3], branch=None, message="", trigger=Trigger.MANUAL)
    assert (await world.store.builds.get(waiting.id)).state is BuildState.CREATED
    again = await world.store.builds.request("shop", commit=COMMITS[2], branch=None, message="", trigger=Trigger.MANUAL)
    assert (await world.store.builds.get(aside.id)).error.startswith("overtaken by build 4")
    newer = await world.request(commit=COMMITS[2])
    for build in (waiting, again):
        assert (await world.store.builds.get(build.id)).error.startswith("overtaken by build 5")
    assert (await world.store.builds.next_created(())).id == newer.id


async def test_files_that_are_made_once_more_leave_what_is_followed_and_held_as_it_is(
    world: Any, make_spec: Any
) -> None:
    await apply(world)
    first = await world.publish(make_spec("a"), commit=COMMITS[0])
    second = await world.publish(make_spec("b"), commit=COMMITS[1])

    async def again(commit: str) -> Any:
        build = await world.store.builds.request(
            "shop", commit=commit, branch=None, message="", trigger=Trigger.SETTINGS
        )
        await world.to_publishing(build)
        return await world.store.builds.publish(build.id, world.manifest(make_spec("a")))

    await world.store.builds.rollback("shop", first.id)
    assert (await again(COMMITS[0])).live
    assert await live_number(world) == (3, True)
    assert (await world.store.builds.newest_followed("shop")).id == second.id
    assert (await world.store.builds.resume("shop")).id == second.id
    assert (await again(COMMITS[0])).live
    assert await live_number(world) == (4, False)


async def test_in_a_working_tree_a_person_builds_what_is_followed(world: Any, make_spec: Any) -> None:
    await apply(world, worktree=True)
    await world.publish(make_spec("a"), commit=COMMITS[0])
    build = await manual(world, COMMITS[1], make_spec("a"))
    assert (build.live, await live_number(world)) == (True, (2, False))


async def test_cancelling_a_build(world: Any, make_spec: Any) -> None:
    await apply(world)
    waiting = await world.request()
    cancelled = await world.store.builds.cancel(waiting.id)
    assert (cancelled.state, cancelled.error) == (BuildState.FAILED, CANCELLED)
    with pytest.raises(Conflict, match='build 1 of shop has ended already: "cancelled"'):
        await world.store.builds.cancel(waiting.id)
    running = await world.request()
    await world.store.builds.advance(running.id, BuildState.STARTED)
    assert (await world.store.builds.cancel(running.id)).state is BuildState.STARTED
    assert world.heard(BuildCancelRequested) == [BuildCancelRequested(environment="shop", build_id=running.id)]
    with pytest.raises(NotFound):
        await world.store.builds.cancel("unknown")
