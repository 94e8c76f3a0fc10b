"""Retry policies: the arithmetic of Defer's exponential back-off, shared by the SDK and the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

DEFAULT_MAX_ATTEMPTS = 13
"""Retries meant by ``retry=True`` and by a policy that names no ``max_attempts``."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when a failed execution runs again.

    ``max_attempts`` counts retries after the first try; intervals are in seconds;
    ``randomization_factor`` spreads each interval by ± that share of it.
    """

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    initial_interval: float = 30.0
    randomization_factor: float = 0.5
    multiplier: float = 1.5
    max_interval: float = 600.0

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 0:
            raise ValueError(f"max_attempts is a whole number from 0, not {self.max_attempts!r}")
        for name, low, high in _BOUNDS:
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not low <= number <= high:
                raise ValueError(f"{name} is a number from {low:g} to {high:g}, not {number!r}")

    def interval(self, retry: int, spread: float) -> float:
        """Seconds to wait before retry number ``retry`` (1 is the first); ``spread`` is a random number in [0, 1)."""
        try:
            base = min(self.initial_interval * self.multiplier ** (retry - 1), self.max_interval)
        except OverflowError:
            base = self.max_interval if self.initial_interval else 0.0
        return base * (1 + self.randomization_factor * (2 * spread - 1))

    def as_dict(self) -> dict[str, int | float]:
        return asdict(self)


_BOUNDS = (
    ("initial_interval", 0.0, 31_536_000.0),
    ("randomization_factor", 0.0, 1.0),
    ("multiplier", 1.0, 1_000.0),
    ("max_interval", 0.0, 31_536_000.0),
)

Retry = bool | int | RetryPolicy | Mapping[str, object]


def parse_retry(value: Retry | None) -> RetryPolicy:
    """Return the policy ``value`` stands for: False is no retry, True 13, a number that many, a dict its fields.

    Raises:
        TypeError: neither of these, or a dict with an unknown field.
        ValueError: a field out of its bounds.
    """
    if value is None or value is False:
        return RetryPolicy(max_attempts=0)
    if value is True:
        return RetryPolicy()
    if isinstance(value, RetryPolicy):
        return value
    if isinstance(value, int):
        return RetryPolicy(max_attempts=value)
    if isinstance(value, Mapping):
        unknown = set(value) - set(RetryPolicy.__dataclass_fields__)
        if unknown:
            known = ", ".join(RetryPolicy.__dataclass_fields__)
            raise TypeError(f"retry has no field {sorted(map(str, unknown))[0]!r}; it has {known}")
        return RetryPolicy(**value)  # type: ignore[arg-type]
    raise TypeError(f"retry is a bool, a number, a RetryPolicy or a dict, not {value!r}")
