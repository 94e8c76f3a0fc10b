"""The table of ``make examples``."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.examples.measure import Report, Row

TITLES = ("example", "installed from", "Python", "cold build", "warm build", "commit to live", "first execution")


def as_text(report: Report) -> str:
    """A table that is Markdown too, and what follows from it."""
    rows = [TITLES, *(_cells(row) for row in report.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join([*lines, "", *_summary(report), *_faults(report)])


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    figures = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return f"| {' | '.join([*words, *figures])} |"


def _cells(row: Row) -> tuple[str, ...]:
    times = (_shown(row.cold, "s"), _shown(row.warm, "s"), _shown(row.live, "s"), _shown(row.execution, "ms"))
    return (row.environment, row.installed_from, row.python, *times)


def _shown(seconds: float | None, unit: str) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if unit == "ms" else f"{seconds:.2f} s"


def _summary(report: Report) -> list[str]:
    worst = report.worst_live
    good = len(report.rows) - len(report.faults) - len(report.skipped)
    return [
        f"{good} of {len(report.rows)} environments are built and have run a function.",
        f"git commit to live: {report.median_live:.2f} s median"
        + (f", {worst.live or 0.0:.2f} s at worst ({worst.environment})" if worst else ""),
        f"Sets of dependencies on disk: {report.dependency_sets} for {len(report.rows) - report.private} environments; "
        f"{report.private} more install from their own tree and share none.",
        f"All of it took {report.seconds:.0f} s.",
    ]


def _faults(report: Report) -> list[str]:
    skipped = [f"\nSKIPPED {name}: needs {part}" for name, part in report.skipped.items()]
    return skipped + [f"\nFAILED {row.environment}: {row.fault}" for row in report.faults]


def as_json(report: Report) -> dict[str, Any]:
    worst = report.worst_live
    return dataclasses.asdict(report) | {
        "median_commit_to_live": round(report.median_live, 3),
        "worst_commit_to_live": round(worst.live or 0.0, 3) if worst else None,
        "failed": [row.environment for row in report.faults],
    }
