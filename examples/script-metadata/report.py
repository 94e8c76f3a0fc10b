# /// script
# requires-python = ">=3.10"
# dependencies = ["tabulate>=0.9,<1"]
# ///
"""One script that says itself what it needs (PEP 723); `uv run report.py` starts it by hand."""

from tabulate import tabulate

from deferlite import defer


@defer
def sales_report(sales: dict[str, list[float]]) -> str:
    """A table of sales for each region, the best one first."""
    rows = sorted(([region, sum(amounts)] for region, amounts in sales.items()), key=lambda row: -row[1])
    return tabulate(rows, headers=["region", "sales"], floatfmt=".2f", tablefmt="plain")


if __name__ == "__main__":
    print(sales_report.run({"north": [10, 20.5], "south": [40]}))
