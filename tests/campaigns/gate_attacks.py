"""Named attacks on the gate: a weak, leaked or broken model must not pass, nor may a broken comparison."""

import contextlib
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, Case, Chance
from campaigns.in_project import project_cases

Change = Callable[["Gate"], object]
REFUSED, REJECTED, PASSED = "refused", "rejected", "passed"
HALF = "return predicted.astype(np.float64)"  # the last line of artifact.py's predict


class Gate:
    """The folders and options of one evaluation, which an attack changes."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder, self.source = folder, source
        for name in ("model", "champion", "test"):
            shutil.copytree(source / name, folder / name)
        self.flags = {"metric": "auc", "threshold": "0.6", "min-improvement": "-0.02", "confidence": "0.95"}

    def repack(self, name: str, change: Callable[[Path], None]) -> None:
        """Change the unpacked artifact of candidate or champion; the champion's record follows."""
        inside = self.folder / "inside"
        with tarfile.open(self.folder / name / "model.tar.gz") as tar:
            tar.extractall(inside, filter="data")
        change(inside)
        with tarfile.open(self.folder / name / "model.tar.gz", "w:gz") as tar:
            tar.add(inside, arcname=".")
        shutil.rmtree(inside)
        if name == "champion":
            self.record(digest=hashlib.sha256((self.folder / "champion" / "model.tar.gz").read_bytes()).hexdigest())

    def record(self, **changes: Any) -> None:
        """Change the champion's record."""
        file = self.folder / "champion" / "champion.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    def test_rows(self, change: Callable[[Any], Any]) -> None:
        """Change the test rows."""
        pd = import_module("pandas")
        file = next((self.folder / "test").glob("*.parquet"))
        change(pd.read_parquet(file)).to_parquet(file, index=False)

    def evaluate(self) -> tuple[str, str]:
        """Return the outcome, and the reason."""
        evaluate = import_module("evaluate")
        flags = [part for name, value in self.flags.items() for part in (f"--{name}", value)]
        paths = [f"--{name}={self.folder / name}" for name in ("model", "champion", "test", "output")]
        error = io.StringIO()
        try:
            with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
                evaluate.main([*paths, *flags])
        except SystemExit as end:
            code = end.code
        else:
            code = None
        if code is not None:
            assert code == 1 and not (self.folder / "output").exists(), f"exit code {code}: {error.getvalue()}"
            return REFUSED, error.getvalue().strip()
        gate = json.loads((self.folder / "output" / "evaluation.json").read_text())["gate"]
        passes = gate["threshold_margin"] >= 0 and gate["champion_verdict"] in ("passed", "no champion")
        assert gate["passed"] == passes, gate
        return PASSED if passes else REJECTED, gate["reason"]


def code(name: str, old: str, new: str) -> Change:
    """Return an attack on the code of artifact.py inside an artifact."""

    def change(inside: Path) -> None:
        file = inside / "code" / "artifact.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return lambda gate: gate.repack(name, change)


def inside(name: str, file: str, content: bytes | None) -> Change:
    """Return an attack that writes or removes a file of an artifact."""

    def change(folder: Path) -> None:
        (folder / file).unlink() if content is None else (folder / file).write_bytes(content)

    return lambda gate: gate.repack(name, change)


def flag(name: str, value: str) -> Change:
    """Return an attack by an option."""
    return lambda gate: gate.flags.update({name: value})


def schema(old: str, new: str) -> Change:
    """Return an attack on the champion's schema."""

    def change(folder: Path) -> None:
        for file in (folder / "schema.toml", folder / "code" / "schema.toml"):
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new))

    return lambda gate: gate.repack("champion", change)


def member(name: str, kind: bytes, link: str = "") -> Change:
    """Return an attack by an archive with a harmful member."""

    def attack(gate: Gate) -> None:
        with tarfile.open(gate.folder / "model" / "model.tar.gz", "w:gz") as tar:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(b"x"))

    return attack


def weak(gate: Gate) -> None:
    """Attack by a candidate that has learned little."""
    shutil.copy(gate.source / "weak" / "model.tar.gz", gate.folder / "model")


def seen(name: str, share: float) -> Change:
    """Return an attack by a model that was trained on a share of the test rows."""

    def attack(gate: Gate) -> None:
        np, pd = import_module("numpy"), import_module("pandas")
        data = import_module("data")
        rows = pd.read_parquet(next((gate.folder / "test").glob("*.parquet")))
        known = np.unique(data.row_digests(rows, data.load_schema()))[: int(len(rows) * share)]
        gate.repack(name, lambda folder: np.save(folder / "seen_rows.npy", known))

    return attack


def remove(*names: str) -> Change:
    """Return an attack that removes files."""

    def attack(gate: Gate) -> None:
        for name in names:
            (gate.folder / name).unlink()

    return attack


def write(name: str, content: str) -> Change:
    """Return an attack that writes a file."""
    return lambda gate: (gate.folder / name).write_text(content)


# Each attack: what it does, its outcome, and words of the reason. The champion is good, the candidate is as good.
ATTACKS: dict[str, tuple[Change, str, str]] = {
    "none": (lambda gate: None, PASSED, "champion v1"),
    "the champion's record is gone": (remove("champion/champion.json"), REFUSED, "the champion is incomplete"),
    "the champion's model is gone": (remove("champion/model.tar.gz"), REFUSED, "the champion is incomplete"),
    "the champion is gone": (
        remove("champion/champion.json", "champion/model.tar.gz"),
        REFUSED,
        "the champion is incomplete",
    ),
    "a marker beside the champion": (write("champion/no-champion.json", "{}"), PASSED, "champion v1 has"),
    "the champion's model is another": (
        lambda gate: shutil.copy(gate.folder / "model" / "model.tar.gz", gate.folder / "champion"),
        REFUSED,
        "not the recorded one",
    ),
    "the record is no JSON": (write("champion/champion.json", "{"), REFUSED, "the champion is incomplete"),
    "the record is a list": (write("champion/champion.json", "[]"), REFUSED, "the champion is incomplete"),
    "the record has no digest": (
        write("champion/champion.json", '{"version": 1}'),
        REFUSED,
        "the champion is incomplete",
    ),
    "the record's digest is null": (lambda gate: gate.record(digest=None), REFUSED, "not the recorded one"),
    "the record's version is text": (lambda gate: gate.record(version="x"), REFUSED, "the champion is incomplete"),
    "the record's version is 0": (lambda gate: gate.record(version=0), REFUSED, "the champion is incomplete"),
    "the champion has a column that is gone": (schema("mean_radius", "gone"), REFUSED, "its column 'gone' is gone"),
    "the champion's classes are swapped": (
        schema('["benign", "malignant"]', '["malignant", "benign"]'),
        REFUSED,
        "target or classes changed",
    ),
    "the champion's schema is no TOML": (inside("champion", "schema.toml", b"="), REFUSED, "schema.toml"),
    "the champion's schema is gone": (inside("champion", "schema.toml", None), REFUSED, "schema.toml"),
    "the champion's code fails": (
        code("champion", HALF, "raise ValueError('x')"),
        REFUSED,
        "the champion cannot score",
    ),
    "the champion's code ends early": (code("champion", HALF, "sys.exit(0)"), REFUSED, "the champion cannot score"),
    "the champion predicts nan": (
        code("champion", HALF, "return predicted * np.nan"),
        REFUSED,
        "of the champion is nan",
    ),
    "the champion predicts fewer rows": (
        code("champion", HALF, "return predicted[:-1]"),
        REFUSED,
        "the champion cannot score",
    ),
    "the champion predicts a table": (
        code("champion", HALF, "return np.stack([predicted, predicted], 1)"),
        REFUSED,
        "the champion cannot score",
    ),
    "the champion predicts text": (
        code("champion", HALF, "return predicted.astype(str)"),
        REFUSED,
        "the champion cannot score",
    ),
    "the champion knows all test rows": (seen("champion", 1.0), REFUSED, "too few"),
    "the champion knows most test rows": (seen("champion", 0.8), REFUSED, "too few"),
    "the champion knows some test rows": (seen("champion", 0.3), PASSED, "are left out"),
    "the champion's rows are damaged": (inside("champion", "seen_rows.npy", b"x"), REFUSED, "seen_rows.npy"),
    "the champion does not say which rows it knows": (
        inside("champion", "seen_rows.npy", None),
        PASSED,
        "it may have been trained on test rows",
    ),
    "the candidate knows a test row": (seen("model", 0.01), REFUSED, "the candidate was trained on 1 of the test rows"),
    "the candidate knows all test rows": (seen("model", 1.0), REFUSED, "the candidate was trained on"),
    "the candidate is no archive": (write("model/model.tar.gz", "x"), REFUSED, "is not a model artifact"),
    "the candidate is cut off": (
        lambda gate: (
            (gate.folder / "model" / "model.tar.gz").write_bytes(
                (gate.folder / "model" / "model.tar.gz").read_bytes()[:2000]
            )
            and None
        ),
        REFUSED,
        "is not a model artifact",
    ),
    "the candidate writes outside": (member("../../x", tarfile.REGTYPE), REFUSED, "is not a model artifact"),
    "the candidate links outside": (member("x", tarfile.SYMTYPE, "/etc/passwd"), REFUSED, "is not a model artifact"),
    "the candidate has no estimator": (inside("model", "model.joblib", None), REFUSED, "has no model.joblib"),
    "the candidate's estimator is damaged": (inside("model", "model.joblib", b"x"), REFUSED, "model.joblib in the"),
    "the candidate's threshold is text": (inside("model", "training.json", b'{"threshold": "x"}'), REFUSED, "damaged"),
    "the candidate's record is a list": (inside("model", "training.json", b"[1]"), REFUSED, "damaged"),
    "the champion's threshold is nan": (
        inside("champion", "training.json", b'{"threshold": NaN}'),
        REFUSED,
        "no probability",
    ),
    "the champion's threshold is 2": (
        inside("champion", "training.json", b'{"threshold": 2}'),
        REFUSED,
        "no probability",
    ),
    "the candidate is the weak one": (weak, REJECTED, "worse"),
    "metric nan": (flag("metric", "nan"), REFUSED, "is not one of"),
    "threshold nan": (flag("threshold", "nan"), REFUSED, "finite"),
    "threshold -inf": (flag("threshold", "-inf"), REFUSED, ""),
    "threshold 1e400": (flag("threshold", "1e400"), REFUSED, "finite"),
    "threshold that chance meets": (flag("threshold", "0.5"), REFUSED, "learned nothing"),
    "threshold 1.1": (flag("threshold", "1.1"), REJECTED, "misses the threshold"),
    "min_improvement nan": (flag("min-improvement", "nan"), REFUSED, "finite"),
    "min_improvement 1e400": (flag("min-improvement", "1e400"), REFUSED, "finite"),
    "min_improvement 0.5": (flag("min-improvement", "0.5"), REJECTED, "at least 0.5 better needed"),
    "confidence 1": (flag("confidence", "1"), REFUSED, "confidence"),
    "confidence 0": (flag("confidence", "0"), REFUSED, "confidence"),
    "no test rows": (lambda gate: gate.test_rows(lambda rows: rows.head(0)), REFUSED, "empty"),
    "test rows of one class": (
        lambda gate: gate.test_rows(lambda rows: rows[rows["diagnosis"] == "benign"]),
        REFUSED,
        "",
    ),
    "ten test rows": (lambda gate: gate.test_rows(lambda rows: rows.groupby("diagnosis").head(5)), PASSED, ""),
    "the champion was split by what is gone": (
        schema("split_by = []", 'split_by = ["customer"]'),
        REFUSED,
        "do not have",
    ),
    "the champion was split by a key": (schema("split_by = []", 'split_by = ["mean_radius"]'), PASSED, "champion v1"),
    "test rows without a column": (
        lambda gate: gate.test_rows(lambda rows: rows.drop(columns="mean_radius")),
        REFUSED,
        "mean_radius",
    ),
    "test rows with an unknown class": (
        lambda gate: gate.test_rows(lambda rows: rows.assign(diagnosis="x")),
        REFUSED,
        "",
    ),
}


def cases(scratch: Path) -> Case:
    """Train a good champion and a candidate that is as good, and return the function that makes one attack."""
    preprocess, train = import_module("preprocess"), import_module("train")
    data = Path(str(train.__file__)).parents[1] / "data"
    with contextlib.redirect_stdout(io.StringIO()):
        preprocess.main(["--input", str(data), "--output", str(scratch / "rows")])
        splits = [f"--{name}={scratch / 'rows' / name}" for name in ("train", "validation")]
        for name, rounds in (("model", "30"), ("champion", "30"), ("weak", "1")):
            train.main(
                [*splits, f"--model-dir={scratch / 'trained' / name}", "--max_depth", "2", "--num_round", rounds]
            )
            (scratch / "source" / name).mkdir(parents=True)
            with tarfile.open(scratch / "source" / name / "model.tar.gz", "w:gz") as tar:
                tar.add(scratch / "trained" / name, arcname=".")
    digest = hashlib.sha256((scratch / "source" / "champion" / "model.tar.gz").read_bytes()).hexdigest()
    (scratch / "source" / "champion" / "champion.json").write_text(json.dumps({"version": 1, "digest": digest}))
    shutil.copytree(scratch / "rows" / "test", scratch / "source" / "test")

    def case(chance: Chance) -> None:
        name = list(ATTACKS)[chance.number]
        attack, outcome, words = ATTACKS[name]
        gate = Gate(scratch / f"attack-{chance.number}", scratch / "source")
        attack(gate)
        found, reason = gate.evaluate()
        assert found == outcome and words in reason, f"{name}: {found}, not {outcome}: {reason}"
        assert len(reason.splitlines()) == 1 and "Traceback" not in reason, f"{name}: {reason}"
        shutil.rmtree(gate.folder)

    return case


CAMPAIGN = Campaign(
    "gate",
    "no weak, leaked or broken model passes, nor does a broken comparison",
    len(ATTACKS),
    8,
    lambda folder: project_cases(folder, "gate_attacks"),
)
