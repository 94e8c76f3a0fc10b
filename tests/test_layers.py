"""Rooms have doors one way (DESIGN: Rooms): a file imports only from rooms with a smaller number, or its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "deferlite"
ROOMS = {
    "": ("sdk", 0),
    "testing": ("sdk", 0),
    "sdk": ("sdk", 0),
    "runner": ("runner", 0),
    "model": ("model", 1),
    "settings": ("settings", 2),
    "bus": ("bus", 2),
    "probes": ("probes", 2),
    "store": ("store", 3),
    "sandbox": ("sandbox", 4),
    "executors": ("executors", 5),
    "builder": ("builder", 5),
    "scheduler": ("scheduler", 6),
    "watcher": ("watcher", 6),
    "notifications": ("notifications", 6),
    "web": ("web", 7),
    "server": ("server", 8),
    "cli": ("cli", 9),
}
STDLIB_ONLY = ("sdk", "runner")


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "demo_project" not in path.parts]


def room_of(parts: tuple[str, ...]) -> tuple[str, int]:
    return ROOMS[parts[0] if parts else ""]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every import of a file, those inside functions and TYPE_CHECKING blocks too, as line and dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full"
            base = node.module or ""
            if base == "deferlite":
                yield from ((node.lineno, f"deferlite.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def target_room(name: str) -> tuple[str, int] | None:
    parts = name.split(".")
    if parts[0] != "deferlite":
        return None
    rest = tuple(parts[1:2])
    # ``from deferlite import defer`` names something of the SDK's door, not a room.
    return ROOMS[rest[0]] if rest and rest[0] in ROOMS else ROOMS[""]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    relative = path.relative_to(PACKAGE).with_suffix("").parts
    own = room_of(() if relative == ("__init__",) else relative)
    for line, name in imported(path):
        target = target_room(name)
        if target is not None and target != own:
            assert target[1] < own[1], f"{path}:{line}: {own[0]} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_is_in_a_room(path: Path) -> None:
    relative = path.relative_to(PACKAGE).with_suffix("").parts
    assert relative == ("__init__",) or relative[0] in ROOMS


def test_what_goes_into_applications_is_standard_library_only() -> None:
    import sys

    for path in modules():
        relative = path.relative_to(PACKAGE).with_suffix("").parts
        if room_of(() if relative == ("__init__",) else relative)[0] in STDLIB_ONLY:
            for line, name in imported(path):
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names or top in ("deferlite", "__future__"), f"{path}:{line}: {name}"


def test_files_stay_small() -> None:
    long = {str(path.relative_to(PACKAGE)): n for path in modules() if (n := len(path.read_text().splitlines())) > 380}
    assert not long
