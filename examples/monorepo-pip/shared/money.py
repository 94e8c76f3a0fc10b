"""Money in cents, shared by every project of this repository."""


def cents(amount: str) -> int:
    """``12.34`` as 1234. Raises ValueError for what is not an amount."""
    whole, _, rest = amount.partition(".")
    return int(whole) * 100 + int(rest.ljust(2, "0")[:2] or 0)


def shown(amount: int) -> str:
    return f"{amount // 100}.{amount % 100:02}"
