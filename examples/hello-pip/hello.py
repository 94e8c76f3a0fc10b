"""The smallest project with a dependency: one module, one requirements.txt."""

import six

from deferlite import defer


@defer
def hello(name: str = "world") -> str:
    """Greets somebody."""
    greeting = six.ensure_str(b"Hello")
    print(f"greeting {name}")
    return f"{greeting}, {name}!"


@defer(concurrency=1)
async def add(left: float, right: float) -> float:
    """An async function: deferlite runs it under asyncio."""
    return left + right
