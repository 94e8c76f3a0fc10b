"""A background function in a folder named defer, as Defer's projects kept them; nothing has to be a package."""

from app.sizes import fit

from deferlite import defer


@defer
def thumbnail(width: int, height: int, longest: int = 200) -> list[int]:
    """The size of a thumbnail with the same proportions."""
    return fit(width, height, longest)
