"""Renamed, rolled back, cancelled, retired and killed in whatever order: no execution is lost or doubled."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import SECOND, ManualClock
from deferlite.model.environment import BuildSettings, EnvironmentConfig, Preview, PreviewSettings
from deferlite.model.errors import Conflict, NotFound, UnknownFunction
from deferlite.model.execution import TERMINAL, Claimed, Ending, NewExecution, Outcome, State, error_result
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest
from deferlite.sdk.retry import RetryPolicy
from deferlite.store import Store, Want, timing

T = TypeVar("T")
NAMES = ("a", "b", "c", "d")
BASE, PREVIEW = "shop", "shop--x"
NOT_NOW = (Conflict, NotFound, UnknownFunction)
"""What an operation may answer when its moment is wrong: nothing of it is stored then."""

environments = st.sampled_from((BASE, PREVIEW))
names = st.sampled_from(NAMES)
cuts = st.sampled_from(("", "", "given up", "killed"))
"""Whether the one who asked, or the server, goes before the first piece of an operation is followed by the others."""
commits = st.sampled_from(("1" * 40, "2" * 40))
functions = st.dictionaries(
    names,
    st.tuples(st.sets(names, max_size=3), st.sampled_from((None, "* * * * *", "0 * * * *"))),
    min_size=1,
    max_size=3,
)


def manifest_of(functions: dict[str, tuple[set[str], str | None]]) -> Manifest:
    specs = tuple(
        FunctionSpec(
            name=name,
            module="m",
            attribute=name,
            is_async=False,
            aliases=tuple(sorted(aliases)),
            options=FunctionOptions(cron=cron, retry=RetryPolicy(max_attempts=3)),
        )
        for name, (aliases, cron) in functions.items()
    )
    return Manifest(runtime="python", interpreter="", modules=("m",), functions=specs)


async def nothing_more(database: object) -> None:
    """In place of the pieces that follow."""


class Queue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()
        self.clock = ManualClock()
        self.boot = 0
        self.known: dict[str, State] = {}
        self.claimed: list[Claimed] = []
        self.small = mock.patch.object(timing, "MOST_SETTLED", 2)
        self.small.start()
        self.open()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)

    def open(self) -> None:
        self.store = self.do(Store.open(Path(self.folder.name) / "queue.db", self.clock, Bus()))

    def rows(self, sql: str) -> list[Any]:
        return list(self.do(self.store.executions._database.rows(sql)))

    @initialize(functions=functions)
    def begin(self, functions: dict[str, tuple[set[str], str | None]]) -> None:
        self.apply(BASE, "warn")
        self.apply(PREVIEW, "warn")
        for environment in (BASE, PREVIEW):
            self.publish(environment, functions, "1" * 40, Trigger.COMMIT, "")

    @rule(environment=environments, breaking=st.sampled_from(("warn", "hold")))
    def apply(self, environment: str, breaking: str) -> None:
        config = EnvironmentConfig(repository="/r", build=BuildSettings(breaking=breaking))  # type: ignore[arg-type]
        preview = Preview(of=BASE, branch="x") if environment == PREVIEW else None
        if preview is None:
            config = EnvironmentConfig(repository="/r", build=config.build, preview=PreviewSettings(branches=("*",)))
        with suppress(Conflict):
            self.do(self.store.environments.apply(environment, config, "f", preview))

    @rule(environment=environments, killed=st.booleans())
    def retire(self, environment: str, killed: bool) -> None:
        self.cut(self.store.environments.retire(environment), "killed" if killed else "")

    @rule(
        environment=environments,
        functions=functions,
        commit=commits,
        trigger=st.sampled_from((Trigger.COMMIT, Trigger.MANUAL, Trigger.SETTINGS)),
        cut=cuts,
    )
    def publish(
        self,
        environment: str,
        functions: dict[str, tuple[set[str], str | None]],
        commit: str,
        trigger: Trigger,
        cut: str,
    ) -> None:
        try:
            build = self.do(
                self.store.builds.request(environment, commit=commit, branch="m", message="", trigger=trigger)
            )
        except NOT_NOW:
            return
        for state in ("started", "cloning", "installing", "compiling", "publishing"):
            self.do(self.store.builds.advance(build.id, BuildState(state)))
        self.cut(self.store.builds.publish(build.id, manifest_of(functions)), cut)

    @rule(environment=environments, how=st.sampled_from(("rollback", "promote", "resume")), cut=cuts)
    def go(self, environment: str, how: str, cut: str) -> None:
        builds = self.store.builds
        if how == "resume":
            self.cut(builds.resume(environment), cut)
        else:
            self.cut(getattr(builds, how)(environment, None), cut)

    @rule(environment=environments)
    def tidy(self, environment: str) -> None:
        kept = self.do(self.store.builds.let_go(environment, live_too=environment == PREVIEW))
        assert {each.build_id for each in self.claimed if each.environment == environment} <= kept

    def cut(self, work: Coroutine[Any, Any, Any], cut: str) -> None:
        with suppress(*NOT_NOW):
            if not cut:
                self.do(work)
                return
            with mock.patch.object(timing, "settle_all", nothing_more):
                self.do(work)
        if cut == "killed":
            self.restart()

    @rule(
        environment=environments,
        name=names,
        count=st.integers(1, 5),
        delay=st.sampled_from((None, 30, 3600)),
        discard=st.sampled_from((None, 60)),
        key=st.sampled_from((None, "k")),
        once=st.sampled_from((None, None, "i")),
    )
    def enqueue(
        self,
        environment: str,
        name: str,
        count: int,
        delay: int | None,
        discard: int | None,
        key: str | None,
        once: str | None,
    ) -> None:
        now = self.clock.now()
        item = NewExecution(
            function_name=name,
            scheduled_at=None if delay is None else now + delay * SECOND,
            discard_at=None if discard is None else now + discard * SECOND,
            concurrency_key=key,
            idempotency_key=once,
        )
        with suppress(*NOT_NOW):
            made = self.do(self.store.executions.enqueue(environment, [item] * count))
            assert once is None or len({each.id for each in made}) == 1
            self.known |= {each.id: each.state for each in made if each.id not in self.known}

    @rule(slots=st.integers(1, 6))
    def claim(self, slots: int) -> None:
        wants = [Want(*row, slots) for row in self.rows("SELECT environment, id FROM functions ORDER BY 1, name")]
        for claimed in self.do(self.store.executions.claim(wants, f"boot {self.boot}", "process")):
            build = self.do(self.store.builds.manifest(claimed.build_id))
            assert claimed.function_name in {spec.name for spec in build.functions}
            assert claimed.id not in {each.id for each in self.claimed}, "it runs twice at once"
            self.claimed.append(claimed)

    @rule(count=st.integers(1, 4), ending=st.sampled_from(Ending))
    def finish(self, count: int, ending: Ending) -> None:
        ended, self.claimed = self.claimed[:count], self.claimed[count:]
        self.end(ended, ending)

    def end(self, ended: Iterable[Claimed], ending: Ending) -> None:
        outcome = Outcome(ending=ending, result="1" if ending is Ending.RETURNED else error_result("E", ""))
        self.do(self.store.executions.finish([(each.id, each.attempt, outcome) for each in ended]))

    @rule(which=st.integers(0, 100), what=st.sampled_from(("cancel", "force", "now", "later", "rerun")))
    def steer(self, which: int, what: str) -> None:
        if not self.known:
            return
        id = list(self.known)[which % len(self.known)]
        executions = self.store.executions
        with suppress(*NOT_NOW):
            if what in ("cancel", "force"):
                self.do(executions.cancel(None, id, what == "force"))
            elif what == "rerun":
                again = self.do(executions.rerun(None, id))
                self.known[again.id] = again.state
            else:
                moment = None if what == "now" else self.clock.now() + 60 * SECOND
                self.do(executions.reschedule(None, id, moment))

    @rule(seconds=st.sampled_from((0, 1, 60, 3600)))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        now = self.clock.now()
        self.do(self.store.executions.tick_cron(now))
        self.do(self.store.executions.discard(now))
        self.do(self.store.executions.promote(now))
        self.check_settled()

    @rule()
    def restart(self) -> None:
        self.do(self.store.close())
        self.boot += 1
        self.claimed = []
        self.open()
        self.do(self.store.executions.recover(f"boot {self.boot}"))
        self.check_settled()

    def check_settled(self) -> None:
        """What is due waits for a function of the live build."""
        stranded = (
            "SELECT executions.id FROM executions JOIN functions ON functions.id = function_id "
            "JOIN environments ON environments.name = executions.environment "
            "WHERE executions.state = 'created' AND ready = 1 AND environments.state = 'active' AND active = 0"
        )
        assert self.rows(stranded) == []

    @invariant()
    def counters_are_right(self) -> None:
        counted = "SELECT function_id, state, count(*) FROM executions GROUP BY 1, 2 ORDER BY 1, 2"
        assert self.rows("SELECT * FROM counters WHERE count > 0 ORDER BY 1, 2") == self.rows(counted)

    @invariant()
    def each_ends_once(self) -> None:
        found = dict(self.rows("SELECT id, state FROM executions ORDER BY seq"))
        for id, before in self.known.items():
            assert before not in TERMINAL or found[id] == before
        self.known = {id: State(state) for id, state in found.items()}
        running = {id for id, state in self.known.items() if state in (State.STARTED, State.ABORTING)}
        assert running == {each.id for each in self.claimed}
        assert self.rows("SELECT count(*) FROM attempts WHERE state = 'started'") == [(len(running),)]

    @invariant()
    def what_waits_is_called_what_its_function_is(self) -> None:
        misnamed = (
            "SELECT 1 FROM executions JOIN functions ON functions.id = function_id "
            "WHERE state = 'created' AND (function_name != name OR executions.environment != functions.environment)"
        )
        assert self.rows(misnamed) == []

    @invariant()
    def a_retired_preview_does_nothing(self) -> None:
        left = (
            "SELECT executions.id FROM executions JOIN environments ON environments.name = environment WHERE "
            "executions.state IN ('created', 'started') AND environments.state = 'retired' AND preview IS NOT NULL"
        )
        assert self.rows(left) == []

    def teardown(self) -> None:
        try:
            self.all_ends()
        finally:
            self.do(self.store.close())
            self.loop.close()
            self.small.stop()
            self.folder.cleanup()

    def all_ends(self) -> None:
        """Back in order, everything that was ever accepted ends."""
        for environment in (BASE, PREVIEW):
            self.apply(environment, "warn")
            self.publish(environment, {"a": (set(NAMES), None)}, "3" * 40, Trigger.COMMIT, "")
        for _ in range(10):
            self.time_passes(2 * 3600)
            for _ in range(100):
                self.claim(100)
                ended, self.claimed = self.claimed, []
                if not ended:
                    break
                self.end(ended, Ending.RETURNED)
        assert self.rows("SELECT id FROM executions WHERE finished_at IS NULL") == []


Queue.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestQueue = Queue.TestCase
