"""Writes rates.py from rates.csv: run by the build, never imported by it."""

import csv
from pathlib import Path

if __name__ == "__main__":
    with open("rates.csv", newline="") as file:
        rates = {row["currency"]: float(row["rate"]) for row in csv.DictReader(file)}
    Path("rates.py").write_text(f"RATES = {rates!r}\n")
