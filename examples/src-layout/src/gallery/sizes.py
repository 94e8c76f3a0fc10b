"""Plain arithmetic."""


def crop(width: int, height: int, ratio: float) -> list[int]:
    """The largest box of this ratio in the middle: left, top, right, bottom."""
    inner = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    return [left, top, left + inner[0], top + inner[1]]
