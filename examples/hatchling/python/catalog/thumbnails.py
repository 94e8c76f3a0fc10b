"""Pictures of products."""

from slugify import slugify

from deferlite import defer


@defer(concurrency=4)
def plan_thumbnails(product: str, width: int, height: int, sides: tuple[int, ...] = (80, 320)) -> dict[str, list[int]]:
    """The name and size of each thumbnail of a picture, with its proportions kept and never enlarged."""
    sizes: dict[str, list[int]] = {}
    for side in sides:
        factor = min(1.0, side / max(width, height))
        sizes[f"{slugify(product)}-{side}.jpg"] = [round(width * factor), round(height * factor)]
    return sizes
