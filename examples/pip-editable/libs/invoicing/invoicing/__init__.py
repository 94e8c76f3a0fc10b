"""Invoices."""

from dataclasses import dataclass, field


@dataclass
class Invoice:
    customer: str
    lines: dict[str, float] = field(default_factory=dict)

    @property
    def net(self) -> float:
        return round(sum(self.lines.values()), 2)
