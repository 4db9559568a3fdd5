"""Data sets like those that users bring, made by seeded scripts: `python tests/local/made_data.py NAME FOLDER`."""

import csv
import gzip
import io
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from math import exp, sin
from pathlib import Path

Row = dict[str, object]


def churn(rows: int = 1500) -> Iterator[Row]:
    """Customers with categories, dates, an id and blanks; `cancelled_on` is filled after the target is known."""
    chance = random.Random(1)
    for number in range(rows):
        since = date(2019, 1, 1) + timedelta(days=chance.randrange(1800))
        plan, age = chance.choice(["basic", "plus", "pro"]), chance.randint(18, 80)
        months = (date(2024, 1, 1) - since).days / 30
        score = 1.6 - 0.06 * months + {"basic": 1, "plus": 0, "pro": -1}[plan] + 0.02 * (50 - age) + chance.gauss(0, 1)
        churned = chance.random() < 1 / (1 + exp(-score))
        yield {
            "customer_id": f"C-{number * 7919 % 99991:05d}",
            "row": number,
            "age": age if chance.random() > 0.1 else chance.choice(["", " ", "NA"]),
            "plan": plan,
            "city": chance.choice(["Köln", "Oslo", "Lyon", "  "]),
            "since": since.isoformat(),
            "country": "EU",
            "zip": f"{chance.randrange(60):05d}",
            "comment": "" if chance.random() < 0.5 else f"note {chance.random()}",
            "cancelled_on": (since + timedelta(days=900)).isoformat() if churned else "",
            "churned": "yes" if churned else "no",
        }


def housing(rows: int = 1200) -> Iterator[Row]:
    """Houses with a price; `price_in_cents` is the target in another unit."""
    chance = random.Random(2)
    for _ in range(rows):
        size, rooms, built = chance.uniform(30, 250), chance.randint(1, 8), chance.randint(1900, 2023)
        distance = chance.expovariate(0.2)
        price = 2500 * size + 9000 * rooms + 300 * (built - 1950) - 6000 * distance + chance.gauss(0, 25_000)
        row: Row = {"size": round(size, 1), "rooms": rooms, "built": built, "distance": round(distance, 2)}
        yield row | {"price_in_cents": round(100 * price), "price": round(price, 2)}


def fraud(rows: int = 40_000) -> Iterator[Row]:
    """Payments of which one in two hundred is a fraud."""
    chance = random.Random(3)
    for number in range(rows):
        is_fraud = chance.random() < 0.005
        row: Row = {f"v{n}": round(chance.gauss(1.3 if is_fraud and n < 4 else 0, 1), 4) for n in range(8)}
        yield (
            {"time": number * 3 + chance.randrange(3)}
            | row
            | {"amount": round(chance.expovariate(0.02), 2), "fraud": int(is_fraud)}
        )


def sensors(rows: int = 1500) -> Iterator[Row]:
    """Machines in three states, measured over time."""
    chance = random.Random(4)
    for number in range(rows):
        state = chance.choice(["idle", "run", "run", "fault"])
        heat = {"idle": 20, "run": 45, "fault": 60}[state] + chance.gauss(0, 9)
        at = f"2024-{number % 12 + 1:02d}-{number % 28 + 1:02d} {number % 24:02d}:30:00"
        yield {
            "at": at,
            "heat": heat,
            "noise": sin(heat) + chance.gauss(0, 1),
            "line": f"L{number % 5}",
            "state": state,
        }


def sales(rows: int = 1200) -> Iterator[Row]:
    """Orders of a German shop: decimal commas, day before month."""
    chance = random.Random(5)
    for _ in range(rows):
        day = date(2022, 1, 1) + timedelta(days=chance.randrange(700))
        weight, town = chance.uniform(0.5, 30), chance.choice(["München", "Gießen", "Köln"])
        cost = 4 + 0.8 * weight + 3 * (town == "Köln") + 2 * (day.month == 12) + chance.gauss(0, 1)
        yield {
            "Größe, kg": f"{weight:.2f}".replace(".", ","),
            "Ort": town,
            "Datum": day.strftime("%d.%m.%Y"),
            "Kosten": f"{cost:.2f}".replace(".", ","),
        }


def as_csv(rows: Iterable[Mapping[str, object]], separator: str = ",") -> str:
    found = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def gzip_and_parquet(folder: Path) -> Path:
    """Write one half as a gzip file and the other as Parquet, as parts of one folder."""
    import pandas as pd

    table = pd.read_csv(io.StringIO(as_csv(sensors())))
    (folder / "sensors").mkdir()
    (folder / "sensors" / "_SUCCESS").touch()
    (folder / "sensors" / "part-0.csv.gz").write_bytes(gzip.compress(table[:700].to_csv(index=False).encode(), mtime=0))
    table["at"] = pd.to_datetime(table["at"])
    table["line"] = table["line"].astype("category")
    table[700:].to_parquet(folder / "sensors" / "part-1.parquet", index=False)
    return folder / "sensors"


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


# name -> the target, and what writes the data into a folder
DATA: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "churn": ("churned", lambda folder: write(folder / "churn.csv", as_csv(churn()).encode())),
    "housing": ("price", lambda folder: write(folder / "housing.csv", as_csv(housing()).encode())),
    "fraud": ("fraud", lambda folder: write(folder / "fraud.csv", as_csv(fraud()).encode())),
    "sensors": ("state", gzip_and_parquet),
    "sales": ("Kosten", lambda folder: write(folder / "sales.txt", as_csv(sales(), ";").encode("latin-1"))),
}

if __name__ == "__main__":
    print(DATA[sys.argv[1]][1](Path(sys.argv[2])))
