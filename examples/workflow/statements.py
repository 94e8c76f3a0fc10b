"""A workflow: one function used by another."""

import logging

from slugify import slugify

from deferlite import await_result, defer

log = logging.getLogger(__name__)


@defer(concurrency=4)
def balance(customer: str, bookings: list[float]) -> float:
    """The child: one customer's balance."""
    log.info("%s: %d bookings", customer, len(bookings))
    return round(sum(bookings), 2)


@defer(retry=3)
def mail_statement(customer: str, amount: float) -> str:
    """A mail, here a line in the log."""
    log.info("mail to %s: your balance is %.2f", customer, amount)
    return slugify(customer)


@defer(max_duration="1h")
def close_month(bookings: dict[str, list[float]]) -> dict[str, object]:
    """The parent: waits for each balance, then enqueues all the mails at once and does not wait for them."""
    balances = {customer: await_result(balance)(customer, amounts) for customer, amounts in bookings.items()}
    mails = mail_statement.enqueue_many(list(balances.items()))
    return {"balances": balances, "mails": len(mails)}
