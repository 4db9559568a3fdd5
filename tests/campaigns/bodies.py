"""Random bodies of requests to the project's own model/inference.py: the right answer, or 400 with one line."""

import json
import math
import random
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, Case, check_message
from campaigns.in_project import project_cases

RIGHT: list[Any] = [
    0,
    -1,
    2.5,
    10**20,
    2**64,
    -(2**63) - 1,
    1e39,
    "1.5",
    " 2 ",
    "1e3",
    "+1",
    None,
    "",
    "NA",
    " \t",
    math.nan,
]
WRONG: list[Any] = [True, False, [], {}, [1], {"a": [None]}, "x", "1_0", "0x1", "\u0661", "1,5", "inf", "NAN", "\ud800"]
WRONG += [10**400, -(10**400), math.inf, "1e400", "x" * 50_000, "\ufeff1", "\0"]
BODIES = b'|[|[]|{}|null|1|"x"|[[1]]|[{}]|[null]|\xff|{"instances": 1}|[NaN]|\0|\n\n|"|x,y\n|1,2\n3'.split(b"|")
BODIES += [b"[" * 10_000, b"[" * 10**6, b'{"a":' * 10_000, b"1" + b"0" * 5000]


def number(value: Any) -> float:
    """Return a right value as the model gets it."""
    return math.nan if value in (None, "", "NA", " \t", "nan") else float(value)


def cases(scratch: Path) -> Case:
    """Return a case: one body, right or wrong, against a model that is trained once."""
    names = ("data", "inference", "preprocess", "train", "pandas")
    data, inference, preprocess, train, pd = map(import_module, names)
    here = Path(str(data.__file__)).parent
    splits = ["--train", f"{scratch}/train", "--validation", f"{scratch}/validation"]
    with redirect_stdout(StringIO()):
        preprocess.main(["--input", f"{here.parent}/data", "--output", str(scratch)])
        train.main([*splits, "--model-dir", f"{scratch}/model", "--num_round", "5"])
    model = inference.model_fn(f"{scratch}/model")
    columns = list(model.schema.columns)

    def ask(body: bytes, kind: str, rows: list[dict[str, Any]] | None) -> None:
        """Compare the answer with the prediction for right rows, or with the reason of a wrong request."""
        try:
            text, accepted = inference.transform_fn(model, body, kind, "application/json")
        except inference.BadRequest as error:
            check_message(error)
            if rows is None:
                return
            raise
        assert rows is not None, "answered"
        table = pd.DataFrame([{name: number(row[name]) for name in columns} for row in rows], dtype=float)
        assert (json.loads(text), accepted) == (inference.predict(table, model), "application/json")

    def case(chance: random.Random) -> None:
        if chance.random() < 0.2:
            ask(
                chance.choice(BODIES),
                chance.choice(["application/json", "text/csv", "text/CSV; charset=utf-8", "", "x"]),
                None,
            )
            return
        rows = [{name: chance.choice(RIGHT) for name in columns} for _ in range(chance.choice([1, 1, 2, 50]))]
        is_json = chance.random() < 0.6
        if not is_json:  # a cell of CSV is a text
            rows = [{n: "" if v is None else str(v) for n, v in row.items()} for row in rows]
        kind, right = ("application/json" if is_json else "text/csv"), True
        change, row, name = chance.random(), chance.choice(rows), chance.choice(columns)
        if change < 0.3:
            row[name], right = (
                chance.choice(WRONG) if is_json else chance.choice(["x", "1_0", "inf", "NAN", "\u0661", "\0"]),
                False,
            )
        elif change < 0.4 and is_json:  # missing, in one row or in all
            for each in [row] if len(rows) > 1 else rows:
                del each[name]
            right = len(rows) > 1
        elif change < 0.5:
            for each in rows:
                each["more"] = chance.choice(["1", ""])
        if is_json:
            body = json.dumps(rows if chance.random() < 0.5 else {"instances": rows}).encode()
        else:
            has_header = "more" in rows[0] or chance.random() < 0.5
            lines = [[*rows[0]]] * has_header + [[*each.values()] for each in rows]
            end = chance.choice(["\n", "\r\n"])
            body = "".join(",".join(line) + end for line in lines).encode()
        ask(body, kind, [{n: each.get(n) for n in columns} for each in rows] if right else None)

    return case


CAMPAIGN = Campaign(
    *("requests", "a request's body gets the right answer, or status 400 and one line", 2000, 50),
    partial(project_cases, module="bodies"),
)
