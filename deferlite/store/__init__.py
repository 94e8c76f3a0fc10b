"""The queue and its history in one SQLite file: the only room that knows SQLite."""

from deferlite.store.queries import (
    ExecutionFilter,
    Page,
    PageRequest,
    Span,
    TokenInfo,
    Want,
)
from deferlite.store.store import Store

__all__ = ["ExecutionFilter", "Page", "PageRequest", "Span", "Store", "TokenInfo", "Want"]
