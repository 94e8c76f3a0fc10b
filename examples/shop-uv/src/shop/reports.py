"""Reports: a cron function, and one that takes its time."""

import logging
import time
from datetime import datetime, timezone

from deferlite import defer

log = logging.getLogger(__name__)


@defer.cron("0 8 * * *", timezone="Europe/Paris")
async def daily_report() -> str:
    """Every morning at eight in Paris."""
    return f"report of {datetime.now(timezone.utc):%Y-%m-%d}"


@defer(concurrency=1, max_duration="10m")
def yearly_report(year: int, seconds: float = 1.0) -> dict[str, object]:
    """Slow on purpose, with progress in its log; one at a time."""
    for month in range(1, 13):
        time.sleep(seconds / 12)
        log.info("month %d of %d", month, year)
    return {"year": year, "months": 12}
