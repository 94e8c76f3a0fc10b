"""Plain arithmetic."""


def fit(width: int, height: int, longest: int) -> list[int]:
    factor = min(1.0, longest / max(width, height))
    return [round(width * factor), round(height * factor)]
