"""What looking for functions answers, checked and turned into a manifest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from deferlite.builder.runtimes import Launch
from deferlite.model.errors import BuildError
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest, Parameter
from deferlite.model.schedule import validate_cron
from deferlite.sdk.retry import parse_retry

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes."""


LONGEST_ERROR = 16 * 1024


class FoundFunction(msgspec.Struct, kw_only=True):
    name: str
    module: str
    attribute: str
    is_async: bool
    parameters: tuple[Parameter, ...] = ()
    metadata: dict[str, Any] = {}
    aliases: Any = ()
    doc: str = ""
    file: str = ""
    line: int = 0


class Found(msgspec.Struct, kw_only=True):
    """The protocol of runner/finding.py: either ``error`` or the rest."""

    error: str | None = None
    interpreter: str = ""
    import_paths: tuple[str, ...] = ()
    django_settings: str | None = None
    modules: tuple[str, ...] = ()
    functions: tuple[FoundFunction, ...] = ()


def read_found(path: Path) -> Found:
    """Read the answer. Blocks.

    Raises:
        BuildError: there is none, the project is wrong, or the answer is not of the protocol.
    """
    try:
        found = msgspec.json.decode(_answer(path), type=Found)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BuildError(f"the functions that were found cannot be read: {error}") from None
    if found.error is not None:
        raise BuildError(found.error[:LONGEST_ERROR])
    return found


def _answer(path: Path) -> bytes:
    """Code of the project had a hand in it: no link is followed, and it has a size."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(LARGEST_ANSWER)
    except OSError as error:
        raise BuildError(
            f"looking for the background functions gave no answer ({error.strerror}): "
            "does a module end the process while it is imported?"
        ) from None


def make_manifest(runtime: str, found: Found, launch: Launch) -> Manifest:
    """Raises:
    BuildError: an option or an alias of a function is wrong; the message names its place. Or ``launch`` leads out of
        the build's folder.
    """
    _check_aliases(found.functions)
    check_launch(launch)
    return Manifest(
        runtime=runtime,
        interpreter=found.interpreter,
        modules=found.modules,
        functions=tuple(_spec(function) for function in found.functions),
        launch=msgspec.to_builtins(launch),
    )


def check_launch(launch: Launch) -> None:
    """Code of the project had a hand in it, and the runner's box shows what it names.

    Raises:
        BuildError: a path in it leads out of the build's folder, or the environment's.
    """
    imported = [str(Path(launch.project, path)) for path in launch.import_paths]
    for path in (launch.venv, launch.executable, launch.project, *imported):
        inside = Path(os.path.normpath(path))
        if inside.is_absolute() or inside.parts[:1] == ("..",):
            raise BuildError(f"the build is to be started from {path}, which leads out of it")


def _check_aliases(functions: tuple[FoundFunction, ...]) -> None:
    """A former name stands for one function, and for none that is there still."""
    places = {function.name: function for function in functions}
    owners: dict[str, FoundFunction] = {}
    for function in functions:
        if not isinstance(function.aliases, list | tuple):
            raise BuildError(f'{_place(function)}: aliases is a list of its former names, such as aliases=["send"]')
        for alias in function.aliases:
            if not isinstance(alias, str) or not alias.strip():
                raise BuildError(f"{_place(function)}: an alias is a former name as text, not {alias!r}")
            if alias == function.name:
                raise BuildError(f'{_place(function)}: its alias "{alias}" is its own name: remove it')
            if alias in places:
                raise BuildError(f'{_place(function)}: its alias "{alias}" is the name of {_place(places[alias])}')
            other = owners.setdefault(alias, function)
            if other is not function:
                raise BuildError(
                    f'{_place(function)}: its alias "{alias}" is an alias of {_place(other)} too: remove one'
                )


def _place(found: FoundFunction) -> str:
    return f"function {found.name} ({found.file}, line {found.line})"


def _spec(found: FoundFunction) -> FunctionSpec:
    try:
        options = _options(found.metadata)
    except (TypeError, ValueError) as error:
        raise BuildError(f"{_place(found)}: {error}") from None
    return FunctionSpec(
        name=found.name,
        module=found.module,
        attribute=found.attribute,
        is_async=found.is_async,
        parameters=found.parameters,
        options=options,
        aliases=tuple(dict.fromkeys(found.aliases)),
        doc=found.doc[:500],
        file=found.file,
        line=found.line,
    )


def _options(metadata: dict[str, Any]) -> FunctionOptions:
    fields = {name: metadata[name] for name in FunctionOptions.__struct_fields__ if metadata.get(name) is not None}
    fields["retry"] = parse_retry(metadata.get("retry_policy"))
    options = FunctionOptions(**fields)
    # Again with the types checked: the SDK inside the project may be another one.
    msgspec.convert(msgspec.to_builtins(options), FunctionOptions)
    if options.cron is not None:
        validate_cron(options.cron, options.timezone)
    return options
