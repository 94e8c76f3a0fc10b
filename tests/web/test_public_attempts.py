"""Attempts are paged over their numbers, both ways."""

from __future__ import annotations

import pytest

from deferlite.model.execution import Attempt, State
from deferlite.store import PageRequest
from deferlite.web.filters import attempt_page


def attempt(number: int) -> Attempt:
    return Attempt(
        execution_id="e",
        number=number,
        state=State.FAILED,
        build_id="b",
        started_at=number,
        finished_at=number,
        error_code=None,
        interrupted=False,
        sandbox="process",
        cpu_time=None,
        memory_peak=None,
    )


ROWS = [attempt(number) for number in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    ("request_", "numbers", "has_next", "has_prev"),
    [
        (PageRequest(), [5, 4, 3, 2, 1], False, False),
        (PageRequest(first=2), [5, 4], True, False),
        (PageRequest(first=2, after="4"), [3, 2], True, True),
        (PageRequest(first=2, after="2"), [1], False, True),
        (PageRequest(first=2, after="1"), [], False, True),
        (PageRequest(last=2), [2, 1], False, True),
        (PageRequest(last=2, before="2"), [4, 3], True, True),
        (PageRequest(last=9, before="4"), [5], True, False),
        (PageRequest(last=2, before="5"), [], True, False),
    ],
)
def test_pages(request_: PageRequest, numbers: list[int], has_next: bool, has_prev: bool) -> None:
    page = attempt_page(ROWS, request_)
    assert [row.number for row in page.items] == numbers
    assert (page.has_next_page, page.has_prev_page) == (has_next, has_prev)
    if numbers:
        assert (page.start_cursor, page.end_cursor) == (str(numbers[0]), str(numbers[-1]))
