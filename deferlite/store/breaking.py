"""What a manifest would break of the executions that wait.

Only functions that are gone or take other calls than before can break some, and of these the executions are counted by
the shape of their arguments: how many positional ones, and which keywords. A reader counts before the writer does, so
that the writer counts only what was enqueued since, however long the queue is. What runs meanwhile and goes back into
the queue in the same moment is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from deferlite.model.binding import shape, signature, why_not
from deferlite.model.changes import Finding, moved
from deferlite.model.function import FunctionSpec, Manifest
from deferlite.store.database import Database, Row
from deferlite.store.publishing import heirs_of
from deferlite.store.statements import FUNCTIONS as SQL
from deferlite.store.writer import Transaction

Shape = tuple[int, str]
"""How many positional arguments, and the keywords as a JSON list."""

_spec = msgspec.json.Decoder(FunctionSpec)
_keywords = msgspec.json.Decoder(list[str])


class Tally:
    """The executions of one function that wait, by the shape of their arguments."""

    def __init__(self) -> None:
        self.seen = 0
        """The ``seq`` up to which they are counted."""
        self.shapes: dict[Shape, tuple[int, str]] = {}
        """How many, and the id of one of them."""

    def add(self, rows: Iterable[Row]) -> Tally:
        for positional, keywords, count, example, newest in rows:
            known, first = self.shapes.get((positional, keywords), (0, example))
            self.shapes[positional, keywords] = known + count, first
            self.seen = max(self.seen, newest)
        return self


Counted = Mapping[str, Tally]
"""By function id."""


class _Doubtful(msgspec.Struct, frozen=True):
    """A function of the live build with executions that wait, which is gone or takes other calls now."""

    id: str
    spec: FunctionSpec
    waiting: int
    became: FunctionSpec | None
    moved_to: str | None
    """What has its place in the code and does not take its executions over."""


async def count(database: Database, environment: str, manifest: Manifest) -> Counted:
    """On a reader: what waits of the functions whose executions ``manifest`` may break."""
    counted: dict[str, Tally] = {}
    for doubtful in _doubtful(await database.rows(SQL["waiting"], (environment,)), manifest):
        if doubtful.became is not None:
            rows = await database.rows(SQL["shapes"], {"function_id": doubtful.id, "after": 0})
            counted[doubtful.id] = Tally().add(rows)
    return counted


def find(transaction: Transaction, environment: str, manifest: Manifest, counted: Counted) -> tuple[Finding, ...]:
    """What ``manifest`` breaks, by function; the live build is still the one before."""
    found: list[Finding] = []
    for doubtful in _doubtful(transaction.all(SQL["waiting"], (environment,)), manifest):
        if doubtful.became is None:
            found.append(_gone(transaction, doubtful))
        else:
            tally = counted.get(doubtful.id) or Tally()
            where = {"function_id": doubtful.id, "after": tally.seen}
            found += _unfit(doubtful, doubtful.became, tally.add(transaction.all(SQL["shapes"], where)))
    return tuple(found)


def _doubtful(rows: Iterable[Row], manifest: Manifest) -> Iterator[_Doubtful]:
    new = {spec.name: spec for spec in manifest.functions}
    found = list(rows)
    specs = {id: _spec.decode(spec) for id, spec, _, _ in found}
    became = heirs_of(new.values(), specs.values())
    places = moved((specs[id] for id, _, active, _ in found if active), new)
    for id, _, active, waiting in found:
        spec = specs[id]
        heir = new.get(became.get(spec.name) or spec.name)
        if active and waiting and (heir is None or not _takes_the_same(manifest, spec, heir)):
            yield _Doubtful(id, spec, waiting, heir, places.get(spec.name))


def _takes_the_same(manifest: Manifest, old: FunctionSpec, new: FunctionSpec) -> bool:
    # Other languages do not refuse a call for its arguments.
    return manifest.runtime != "python" or shape(old.parameters) == shape(new.parameters)


def _gone(transaction: Transaction, gone: _Doubtful) -> Finding:
    name = gone.spec.name
    if gone.moved_to is not None:
        reason = f'it is called "{gone.moved_to}" now: give that aliases=["{name}"]'
    else:
        reason = f'it is gone: give what took its place aliases=["{name}"], or cancel them'
    (example,) = transaction.all(SQL["waiting_one"], (gone.id,))[0]
    return Finding(kind="gone", function=name, executions=gone.waiting, reason=reason, example=example)


def _unfit(doubtful: _Doubtful, became: FunctionSpec, tally: Tally) -> Iterator[Finding]:
    counts: dict[str, tuple[int, str]] = {}
    for (positional, keywords), (count, example) in tally.shapes.items():
        call = positional, _keywords.decode(keywords)
        reason = why_not(became.parameters, *call)
        # What does not fit the live build either is not broken by this one.
        if reason is not None and why_not(doubtful.spec.parameters, *call) is None:
            known, first = counts.get(reason, (0, example))
            counts[reason] = known + count, first
    now = f"{became.name}{signature(became.parameters)}"
    for reason, (count, example) in sorted(counts.items(), key=lambda item: -item[1][0]):
        text = f"{now} {reason}: let it take the former calls, too, until they have run"
        yield Finding(kind="arguments", function=doubtful.spec.name, executions=count, reason=text, example=example)
