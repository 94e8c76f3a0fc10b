"""Former names of functions: which active function a name stands for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence


def heirs(active: Mapping[str, Collection[str]], inactive: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The active function of every former name that has one. Both arguments: functions and the aliases they gave.

    An alias holds both ways: after ``b`` with ``aliases=["a"]``, ``a`` becomes ``b``; where ``b`` is gone and ``a`` is
    back (a rollback), ``b`` becomes ``a``. It goes on over functions that are gone: with an inactive ``b`` in between,
    ``a`` becomes the ``c`` that names only ``b``. The fewest steps win, then the order of ``active``. An active
    function is nobody's former name.
    """
    same: defaultdict[str, list[str]] = defaultdict(list)
    for functions in (active, inactive):
        for name, aliases in functions.items():
            for alias in aliases:
                same[alias].append(name)
    for name, aliases in inactive.items():
        same[name] += aliases
    found = {name: _nearest(name, same, active) for name in same if name not in active}
    return {name: heir for name, heir in found.items() if heir is not None}


def _nearest(name: str, same: Mapping[str, Sequence[str]], active: Mapping[str, Collection[str]]) -> str | None:
    seen, ahead = {name}, [name]
    while ahead:
        ahead = list(dict.fromkeys(other for each in ahead for other in same.get(each, ()) if other not in seen))
        for other in ahead:
            if other in active:
                return other
        seen.update(ahead)
    return None
