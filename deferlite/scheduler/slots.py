"""Who may run how much at once: the bookkeeping of slots, without any waiting or storing.

Three limits hold together: the server's, each environment's and each function's; and of executions with the same
concurrency key one runs at a time. A parent that waits for its children is parked and holds none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from deferlite.model.environment import RunSettings
from deferlite.model.function import FunctionOptions

UNLIMITED = 1 << 30


class Holder(msgspec.Struct, eq=False):
    """One running execution and whether it counts."""

    environment: str
    function_id: str
    key: str | None = None
    holds: bool = True
    waits: int = 0
    """Calls of it that wait for a child right now."""
    ordered: bool = False
    """Whether the executor has it."""


class Lane:
    """One environment's functions: their options, what they hold, and which may have something to claim."""

    def __init__(self, environment: str) -> None:
        self.environment = environment
        self.run = RunSettings()
        self.options: dict[str, FunctionOptions] = {}
        self.families: dict[str, tuple[str, ...]] = {}
        """By a function's id those of all names that it has and had: what they hold counts as one."""
        self.held = 0
        self.held_by: Counter[str] = Counter()
        self.keys: set[str] = set()
        """Concurrency keys of those that hold a slot."""
        self.hopeful: dict[str, None] = {}
        """Functions that may have ready executions, in the order of their turns."""

    def free(self) -> int:
        limit = self.run.concurrency
        return UNLIMITED if limit is None else limit - self.held

    def free_of(self, function_id: str) -> int:
        options = self.options.get(function_id)
        if options is None:
            return 0  # Its build has gone live this moment: its limit is read before its first turn.
        if options.concurrency is None:
            return UNLIMITED
        return options.concurrency - sum(self.held_by[id] for id in self.families.get(function_id, (function_id,)))

    def hope(self, function_ids: Iterable[str]) -> None:
        self.hopeful.update(dict.fromkeys(function_ids))


class Slots:
    """All lanes under the server's limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.lanes: dict[str, Lane] = {}
        self._turn = 0

    def lane(self, environment: str) -> Lane:
        return self.lanes.setdefault(environment, Lane(environment))

    def take(self, holder: Holder) -> None:
        self._count(holder, 1)
        holder.holds = True
        if holder.key is not None:
            self.lane(holder.environment).keys.add(holder.key)

    def give_back(self, holder: Holder) -> None:
        if holder.holds:
            self._count(holder, -1)
            holder.holds = False
            if holder.key is not None:
                self.lane(holder.environment).keys.discard(holder.key)

    def has_room_for(self, holder: Holder) -> bool:
        lane = self.lane(holder.environment)
        room = self.held < self.limit and lane.free() > 0 and lane.free_of(holder.function_id) > 0
        return room and holder.key not in lane.keys

    def shares(self) -> Iterator[tuple[Lane, str, int]]:
        """How many executions of each function to claim now, so that every lane with hope gets an even share.

        Slots are dealt one at a time, round after round, to the lanes and within a lane to its functions: with one
        busy environment it gets everything, with two each gets half.
        """
        dealt: Counter[tuple[str, str]] = Counter()
        players = [self.lanes[name] for name in self._order() if self.lanes[name].hopeful]
        turns = {lane.environment: list(lane.hopeful) for lane in players}
        left, room = self.limit - self.held, {lane.environment: lane.free() for lane in players}
        while left > 0 and players:
            for lane in tuple(players):
                function_id = (
                    self._next_turn(lane, turns[lane.environment], dealt) if room[lane.environment] > 0 else None
                )
                if function_id is None:
                    players.remove(lane)
                elif left > 0:
                    dealt[lane.environment, function_id] += 1
                    left -= 1
                    room[lane.environment] -= 1
        for (environment, function_id), slots in dealt.items():
            yield self.lanes[environment], function_id, slots

    def _next_turn(self, lane: Lane, turns: list[str], dealt: Counter[tuple[str, str]]) -> str | None:
        while turns:
            function_id = turns.pop(0)
            if lane.free_of(function_id) > dealt[lane.environment, function_id]:
                turns.append(function_id)
                return function_id
        return None

    def _order(self) -> list[str]:
        # The lane that is dealt to first changes, else with one free slot at a time the first would take them all.
        names = list(self.lanes)
        self._turn = (self._turn + 1) % max(len(names), 1)
        return names[self._turn :] + names[: self._turn]

    def _count(self, holder: Holder, step: int) -> None:
        lane = self.lane(holder.environment)
        self.held += step
        lane.held += step
        lane.held_by[holder.function_id] += step
