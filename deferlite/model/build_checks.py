"""What ``[build] overrides`` and ``[build] builder`` may be."""

from __future__ import annotations

from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from deferlite.model.environment_checks import Wrong, text


def specifier_of(version: str) -> str | None:
    """What an override's version asks for, ``==2.3.0`` for ``2.3.0``; None: it is none for a Python package."""
    version = version.strip()
    wanted = f"=={version}" if version[:1].isalnum() else version
    try:
        return wanted if SpecifierSet(wanted) else None
    except InvalidSpecifier:
        return None


def override(version: str) -> None:
    """Raises Wrong, without the text: an address may hold a secret."""
    if specifier_of(version) is None:
        raise Wrong("is not a version", 'write "2.3.0" or ">=2,<3"')


def builder(value: Any) -> str:
    """A version of deferlite, or the whole path of its source folder or a wheel."""
    said = text('"0.4.0rc1"')(value)
    if said.startswith("/"):
        return said
    if "/" in said or said.endswith(".whl"):
        raise Wrong("is not a whole path", "begin it with /, such as /srv/deferlite")
    try:
        Version(said)
    except InvalidVersion:
        raise Wrong("is neither a version nor a path", 'write such as "0.4.0rc1" or "/srv/deferlite"') from None
    return said
