"""Whether the arguments of a call fit a function's parameters, as Python decides it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deferlite.model.function import Parameter

_POSITIONAL = ("positional_only", "positional_or_keyword")
_NAMED = ("positional_or_keyword", "keyword_only")


def why_not(parameters: Sequence[Parameter], positional: int, keywords: Collection[str]) -> str | None:
    """Why a call with so many positional arguments and these keywords does not fit; None: it does."""
    kinds = {parameter.kind for parameter in parameters}
    slots = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    if positional > len(slots) and "var_positional" not in kinds:
        return f"takes {_counted(len(slots))} and {positional} {'is' if positional == 1 else 'are'} queued"
    filled = {parameter.name for parameter in slots[:positional]}
    named = {parameter.name for parameter in parameters if parameter.kind in _NAMED}
    for name in sorted(keywords):
        if name in named and name in filled:
            return f'gets argument "{name}" twice, by position and by name'
        if name not in named and "var_keyword" not in kinds:
            return f'has no parameter "{name}"' + (" that is given by name" if _is_known(name, slots) else "")
    for parameter in parameters:
        if parameter.default is None and parameter.kind in (*_POSITIONAL, "keyword_only"):
            given = parameter.name in filled or (parameter.name in named and parameter.name in keywords)
            if not given:
                return f'missing argument "{parameter.name}"'
    return None


def shape(parameters: Sequence[Parameter]) -> tuple[tuple[str, str, bool], ...]:
    """All that decides which arguments fit: equal for two functions that take the same calls."""
    return tuple((parameter.name, parameter.kind, parameter.default is None) for parameter in parameters)


def signature(parameters: Sequence[Parameter]) -> str:
    """As Python writes it, such as ``(company: str, /, *, dry=False)``."""
    parts: list[str] = []
    kinds = [parameter.kind for parameter in parameters]
    for position, parameter in enumerate(parameters):
        before = kinds[position - 1] if position else None
        if parameter.kind == "keyword_only" and before not in ("keyword_only", "var_positional"):
            parts.append("*")
        parts.append(_text(parameter))
        if parameter.kind == "positional_only" and kinds[position + 1 : position + 2] != ["positional_only"]:
            parts.append("/")
    return f"({', '.join(parts)})"


def _text(parameter: Parameter) -> str:
    stars = {"var_positional": "*", "var_keyword": "**"}.get(parameter.kind, "")
    annotation = "" if parameter.annotation is None else f": {parameter.annotation}"
    if parameter.default is None:
        return f"{stars}{parameter.name}{annotation}"
    equals = " = " if annotation else "="
    return f"{parameter.name}{annotation}{equals}{parameter.default}"


def _counted(count: int) -> str:
    return "no arguments" if count == 0 else f"{count} argument{'' if count == 1 else 's'}"


def _is_known(name: str, slots: Sequence[Parameter]) -> bool:
    return any(parameter.name == name for parameter in slots)
