"""Background work on pictures."""

from slugify import slugify

from deferlite import defer
from gallery.sizes import crop


@defer
def crop_picture(title: str, width: int, height: int, ratio: float = 1.0) -> dict[str, object]:
    """The name of the cropped picture and the box that is cut out."""
    return {"file": f"{slugify(title)}.jpg", "box": crop(width, height, ratio)}
