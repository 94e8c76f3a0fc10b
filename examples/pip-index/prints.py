"""Print jobs of a copy shop."""

from papersizes import size_of

from deferlite import defer


@defer(concurrency=2)
def scale_to_paper(width: int, height: int, paper: str = "A4", resolution: int = 300) -> dict[str, object]:
    """The factor that makes a picture of so many pixels fill a sheet, the sheet turned if that fits better."""
    short, long = (round(side / 25.4 * resolution) for side in size_of(paper))
    turned = width > height
    sheet = (long, short) if turned else (short, long)
    return {"turned": turned, "factor": round(min(sheet[0] / width, sheet[1] / height), 3), "sheet": list(sheet)}
