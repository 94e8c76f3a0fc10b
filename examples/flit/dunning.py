"""Letters to those who forgot to pay."""

import humanize

from deferlite import defer

__version__ = "0.3"


@defer(retry=5)
def write_letter(customer: str, amount: int, days_late: int) -> str:
    """The letter's text; it gets less friendly from the second month on."""
    opening = "Please remember" if days_late < 30 else "For the last time"
    return f"{customer}: {opening}, {humanize.intcomma(amount)} have been due for {humanize.apnumber(days_late)} days."
