"""What a build changes of the one before it, and what it breaks of the executions that wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from deferlite.model.binding import signature
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit for people."""

    id: str
    """Full SHA."""
    subject: str
    author: str = ""
    at: int | None = None
    """Microseconds since 1970, UTC."""


class FunctionChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One function that is not as it was."""

    kind: Literal["added", "removed", "renamed", "signature", "options"]
    name: str
    before: str = ""
    """The former name, signature or options as text; empty for added and removed."""
    after: str = ""


class Changes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Compared with build ``since``, the live one of that moment."""

    since: int
    """Its number."""
    commits: tuple[Commit, ...] = ()
    """Newest first."""
    more_commits: int = 0
    """How many there are besides ``commits``."""
    functions: tuple[FunctionChange, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Executions that a build breaks: their function is gone, or their arguments do not fit it any more."""

    kind: Literal["gone", "arguments"]
    function: str
    executions: int
    """How many wait."""
    reason: str
    """A sentence for people, with the cure."""
    example: str = ""
    """The id of one of them."""


def compare(before: Manifest, after: Manifest, became: Mapping[str, str]) -> tuple[FunctionChange, ...]:
    """What became of the functions: gone, renamed and new ones first, then those that changed, each by name.

    ``became``: new names by former ones, as aliases say. Renamed is also what has the same place in the code under
    another name. One that was renamed may have changed as well, and is then there again under its new name.
    """
    old = {spec.name: spec for spec in before.functions}
    new = {spec.name: spec for spec in after.functions}
    renamed = moved(old.values(), new) | {name: became[name] for name in old if name in became}
    kept = {name: name for name in old if name in new} | renamed
    came = set(new) - set(kept.values())
    return (
        *(FunctionChange(kind="removed", name=name) for name in sorted(old) if name not in kept),
        *(FunctionChange(kind="renamed", name=now, before=name, after=now) for name, now in sorted(renamed.items())),
        *(FunctionChange(kind="added", name=name) for name in sorted(came)),
        *(change for name, now in sorted(kept.items()) for change in _changed(old[name], new[now])),
    )


def moved(old: Iterable[FunctionSpec], new: Mapping[str, FunctionSpec]) -> dict[str, str]:
    """New names by former ones: of what is gone, and has its place in the code under a name that is new."""
    before = {spec.name: spec for spec in old}
    places = {(spec.module, spec.attribute): spec.name for spec in new.values() if spec.name not in before}
    found = {name: places.get((spec.module, spec.attribute)) for name, spec in before.items() if name not in new}
    return {name: now for name, now in found.items() if now is not None}


def _changed(old: FunctionSpec, new: FunctionSpec) -> Iterator[FunctionChange]:
    before, after = signature(old.parameters), signature(new.parameters)
    if before != after:
        yield FunctionChange(kind="signature", name=new.name, before=before, after=after)
    olds, news = _options(old.options), _options(new.options)
    differing = [name for name in news if olds[name] != news[name]]
    if differing:
        before, after = (", ".join(f"{name}={options[name]}" for name in differing) for options in (olds, news))
        yield FunctionChange(kind="options", name=new.name, before=before, after=after)


def _options(options: FunctionOptions) -> dict[str, Any]:
    flat = msgspec.structs.asdict(options)
    retry = flat.pop("retry").as_dict()
    return {f"retry.{name}": value for name, value in retry.items()} | flat
