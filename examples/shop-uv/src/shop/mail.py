"""Mail: retried, since mail servers are what they are, and two at once at most."""

import logging
import os

from deferlite import current_execution, defer

log = logging.getLogger(__name__)


class MailServerDown(Exception):
    """The mail server does not answer."""


@defer(retry={"max_attempts": 3, "initial_interval": 1, "randomization_factor": 0}, concurrency=2)
def send_mail(to: str, subject: str, failures: int = 0) -> dict[str, object]:
    """Sends a mail; the first ``failures`` attempts find the server down."""
    execution = current_execution()
    attempt = execution.attempt if execution else 1
    log.info("mail to %s, attempt %d", to, attempt)
    if attempt <= failures:
        raise MailServerDown(os.environ.get("MAIL_SERVER", "localhost"))
    return {"to": to, "subject": subject, "attempt": attempt}
