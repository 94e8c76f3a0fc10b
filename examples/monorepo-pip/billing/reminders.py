"""Reminders for invoices that nobody paid."""

from money import cents, shown

from deferlite import defer

FEE = 500


@defer(retry=3)
def remind(open_amounts: list[str], days_late: int) -> dict[str, object]:
    """What a customer owes, with a fee from the second week on."""
    owed = sum(map(cents, open_amounts)) + (FEE if days_late > 14 else 0)
    return {"owed": shown(owed), "final": days_late > 30}
