"""Reports in Litestar. Start it with `litestar run`; importing it starts nothing."""

import msgspec
from litestar import Litestar, post

from deferlite import defer


class Visit(msgspec.Struct):
    page: str
    seconds: float


@defer
def report_visits(visits: list[dict[str, object]]) -> dict[str, float]:
    """Seconds on each page, the longest first."""
    totals: dict[str, float] = {}
    for visit in msgspec.convert(visits, list[Visit]):
        totals[visit.page] = totals.get(visit.page, 0.0) + visit.seconds
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


@post("/reports", sync_to_thread=True)
def start_report(data: list[Visit]) -> dict[str, str]:
    return {"execution": report_visits(msgspec.to_builtins(data)).id}


app = Litestar([start_report])
