"""Hours worked."""

from dateutil.parser import isoparse

from deferlite import defer
from timesheets import __version__


@defer
def sum_hours(shifts: list[list[str]]) -> dict[str, object]:
    """The hours of shifts given as two moments each."""
    spans = [isoparse(end) - isoparse(start) for start, end in shifts]
    return {"hours": round(sum(span.total_seconds() for span in spans) / 3600, 2), "made_by": __version__}
