"""Branches → preview environments: ``[preview]`` of an environment says which branches get one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from deferlite.model.clock import SECOND, Clock
from deferlite.model.environment import WHY_ENDED, Ended, Environment, EnvironmentConfig, Preview, PreviewSettings
from deferlite.model.errors import Conflict, NotFound
from deferlite.sandbox.refs import Ref, Refs, is_ancestor
from deferlite.store import Store
from deferlite.store.environments import StoredPreview
from deferlite.watcher.preview_names import names_for

log = logging.getLogger(__name__)

SHOWN = 5
"""Branches without a preview that are named in the environment's note."""


class _Memory:
    """What is known of the branches of one environment from one look to the next."""

    def __init__(self, base: Environment, refs: Refs) -> None:
        self.seen: Collection[str] = refs.heads
        self.new: set[str] = set()
        """Branches that have appeared and have had no place yet."""
        self.merged: dict[str, tuple[str, bool]] = {}
        """Of a commit: a trunk, and whether the commit was in it."""
        self.note = base.note

    def look(self, branches: _Branches) -> None:
        self.new |= branches.wanted.keys() - set(self.seen)
        self.new &= branches.wanted.keys()
        self.seen = branches.all.keys()
        commits = {ref.commit for ref in branches.wanted.values()}
        self.merged = {commit: answer for commit, answer in self.merged.items() if commit in commits}


class _Branches(msgspec.Struct, frozen=True):
    """What an environment and its repository say about branches at one moment."""

    memory: _Memory
    base: Environment
    config: EnvironmentConfig
    settings: PreviewSettings
    all: dict[str, Ref]
    wanted: dict[str, Ref]
    """Those that are to have a preview."""
    trunk: str | None
    """The commit of the branch that the base follows; None: it follows none now."""
    history: Path | None
    """The git folder to ask what is merged."""


class Previews:
    """Makes and retires the previews of every environment that has some."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._memories: dict[str, _Memory] = {}

    async def follow(self, base: Environment, refs: Refs, history: Path | None) -> tuple[list[Environment], list[str]]:
        """Make the previews of ``base`` be as its settings and ``refs`` say; those made or changed, those retired.

        Raises StoreError.
        """
        settings = None if base.config is None else base.config.preview
        if base.config is None or settings is None or not refs.heads:
            return [], []  # A repository with no branch at all says more about itself than about its branches.
        # Kept for this look whatever ``drop`` does meanwhile.
        memory = self._memories.setdefault(base.name, _Memory(base, refs))
        branches = _branches(memory, base, base.config, settings, refs, history)
        memory.look(branches)
        rows = _by_branch(await self._store.environments.previews(base.name, branches.wanted))
        holders, gone = await self._sort_out(branches, rows)
        over = _newest_first(holders, branches)[branches.settings.limit :]
        gone |= {branch: await self._retire(branches, holders.pop(branch), "limit") for branch in over}
        without = [branch for branch in branches.wanted if branch not in holders and branch not in gone]
        waiting = _newest_first((branch for branch in without if self._gets_one(branches, branch, rows)), branches)
        room = branches.settings.limit - len(holders)
        made = [await self._apply(branches, branch, rows.get(branch)) for branch in (*holders, *waiting[:room])]
        await self._say_what_is_left_out(branches, waiting[room:] + over)
        return [environment for environment in made if environment is not None], list(gone.values())

    async def _sort_out(
        self, branches: _Branches, rows: dict[str, StoredPreview]
    ) -> tuple[dict[str, StoredPreview], dict[str, str]]:
        """By their branches: the previews that stay, and the names of those that are retired here."""
        holders: dict[str, StoredPreview] = {}
        gone: dict[str, str] = {}
        for branch, row in rows.items():
            if row.environment.state == "active":
                ended = await self._why_it_ends(branches, row)
                if ended is None:
                    holders[branch] = row
                else:
                    gone[branch] = await self._retire(branches, row, ended)
        return holders, gone

    async def drop(self, base: str) -> None:
        """``base`` has no previews any more: retire those it had. Raises StoreError."""
        for name in await self._store.environments.active_previews(base):
            await self._store.environments.retire(name)
            log.info("preview %s is retired: %s", name, WHY_ENDED["unwanted"])
        await self._store.environments.note(base, None)
        self._memories.pop(base, None)

    def _gets_one(self, branches: _Branches, branch: str, rows: dict[str, StoredPreview]) -> bool:
        """Whether a branch without a preview, which had one before if there is a row of it, is to have one."""
        ref, row = branches.wanted[branch], rows.get(branch)
        # One that appears is wanted however old its commit; one that was there before only if it is in use.
        if branch in branches.memory.new or (row is not None and row.preview.ended == "deleted"):
            return True
        if row is not None and row.preview.ended == "merged":
            return row.preview.commit != ref.commit
        return self._is_in_use(branches.settings, ref, row)

    def _is_in_use(self, settings: PreviewSettings, ref: Ref, row: StoredPreview | None) -> bool:
        if row is not None and row.commit != ref.commit:
            return True
        moments = [ref.committed_at, row.built_at if row is not None else None]
        known = [moment for moment in moments if moment is not None]
        return not known or self._clock.now() - max(known) < settings.expire * SECOND

    async def _is_merged(self, branches: _Branches, commit: str, *, ahead: bool) -> bool | None:
        """Whether ``commit`` is in the branch that the base follows; None: not known."""
        trunk, history = branches.trunk, branches.history
        if trunk is None or history is None:
            return None
        answers = branches.memory.merged
        then, merged = answers.get(commit, (None, False))
        # What was never ahead and is in the trunk stays in it: no need to ask at each of its commits.
        if then != trunk and not (merged and not ahead):
            answer = await is_ancestor(history, commit, trunk)
            if answer is None:
                return None
            answers[commit], merged = (trunk, answer), answer
        return merged

    async def _why_it_ends(self, branches: _Branches, row: StoredPreview) -> Ended | None:
        branch = row.preview.branch
        if branch not in branches.all:
            return "deleted"
        if branch not in branches.wanted:
            return "unwanted"
        ref = branches.wanted[branch]
        if row.preview.ahead and await self._is_merged(branches, ref.commit, ahead=True):
            return "merged"
        return None if self._is_in_use(branches.settings, ref, row) else "expired"

    async def _retire(self, branches: _Branches, row: StoredPreview, ended: Ended) -> str:
        name, branch = row.environment.name, row.preview.branch
        ref = branches.all.get(branch)
        await self._store.environments.retire(name, ended, ref.commit if ref else None)
        log.info("preview %s (branch %s of %s) is retired: %s", name, branch, branches.base.name, WHY_ENDED[ended])
        return name

    async def _apply(self, branches: _Branches, branch: str, row: StoredPreview | None) -> Environment | None:
        """Make the preview of ``branch``, or bring it up to date; None: it is already."""
        base = branches.base
        was_ahead = row is not None and row.environment.state == "active" and row.preview.ahead
        merged = await self._is_merged(branches, branches.wanted[branch].commit, ahead=was_ahead)
        preview = Preview(of=base.name, branch=branch, ahead=was_ahead or merged is False)
        config = config_of(branches.config, branches.settings, branch)
        if row is not None and _is_as(row.environment, config, base.source, preview):
            return None
        try:
            name = row.environment.name if row is not None else await self._free_name(base.name, branch)
            environment = await self._store.environments.apply(name, config, base.source, preview)
        except Conflict as error:
            log.warning("branch %s of %s gets no preview: %s", branch, base.name, error)
            return None
        if row is None or row.environment.state != "active":
            branches.memory.new.discard(branch)
            log.info("preview %s is made: branch %s of %s", name, branch, base.name)
        return environment

    async def _free_name(self, base: str, branch: str) -> str:
        """Raises Conflict."""
        for name in names_for(base, branch):
            try:
                await self._store.environments.get(name)
            except NotFound:
                return name
        raise Conflict("every name for it is taken")

    async def _say_what_is_left_out(self, branches: _Branches, left_out: list[str]) -> None:
        base, memory, note = branches.base, branches.memory, None
        if left_out:
            shown = ", ".join(left_out[:SHOWN]) + (", …" if len(left_out) > SHOWN else "")
            note = f"[preview] limit = {branches.settings.limit} leaves no place for {len(left_out)} more: {shown}"
        if note != memory.note:
            await self._store.environments.note(base.name, note)
            if note is not None:
                log.warning("environment %s: %s", base.name, note)
            memory.note = note


def config_of(base: EnvironmentConfig, settings: PreviewSettings, branch: str) -> EnvironmentConfig:
    """The settings of the preview of ``branch``."""
    limits = {"concurrency": settings.concurrency, "max_duration": settings.max_duration, "memory": settings.memory}
    set_here = {name: value for name, value in limits.items() if value is not None}
    run = msgspec.structs.replace(base.run, cron=settings.cron, **set_here)
    env = {**base.env, **settings.env}
    return msgspec.structs.replace(base, branch=branch, run=run, env=env, token=None, preview=None)


def _branches(
    memory: _Memory,
    base: Environment,
    config: EnvironmentConfig,
    settings: PreviewSettings,
    refs: Refs,
    history: Path | None,
) -> _Branches:
    own = config.branch or refs.head
    wanted = {
        branch: ref
        for branch, ref in refs.heads.items()
        if branch != own and any(fnmatchcase(branch, pattern) for pattern in settings.branches)
    }
    trunk = refs.heads[own].commit if own in refs.heads else None
    return _Branches(memory, base, config, settings, refs.heads, wanted, trunk, history)


def _by_branch(rows: Iterable[StoredPreview]) -> dict[str, StoredPreview]:
    """Of several for one branch the active one."""
    return {row.preview.branch: row for row in sorted(rows, key=lambda row: row.environment.state == "active")}


def _newest_first(names: Iterable[str], branches: _Branches) -> list[str]:
    return sorted(names, key=lambda branch: (-(branches.wanted[branch].committed_at or 0), branch))


def _is_as(environment: Environment, config: EnvironmentConfig, source: str, preview: Preview) -> bool:
    now = environment.state.value, environment.config, environment.error, environment.source, environment.preview
    return now == ("active", config, None, source, preview)
