"""What `schema.toml` may say, and the one line for each mistake in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import artifact
import data

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = '[columns]\nage = "number"\n'
TARGET = '[target]\nname = "churned"\nclasses = ["0", "1"]\n'
BINARY = 'problem_type = "binary_classification"\n'
GOOD = BINARY + TARGET + COLUMNS


def written(folder: Path, text: str) -> Path:
    (folder / "schema.toml").write_text(text)
    return folder / "schema.toml"


MISTAKES = {
    "target-is-a-text": (BINARY + 'target = "churned"\n' + COLUMNS, ["target must be a table", "[target]"]),
    "name-is-a-number": (GOOD.replace('"churned"', "3"), ["target.name must be the name of a column"]),
    "columns-is-a-number": (BINARY + "columns = 3\n" + TARGET, ["columns must be a table"]),
    "no-columns": (BINARY + TARGET + "[columns]\n", ["columns: name at least one"]),
    "classes-is-a-text": (GOOD.replace('["0", "1"]', '"01"'), ["target.classes must be a list"]),
    "classes-of-booleans": (GOOD.replace('["0", "1"]', "[false, true]"), ["target.classes: false", "in quotes"]),
    "classes-of-decimals": (GOOD.replace('["0", "1"]', "[0.0, 1.0]"), ["target.classes: 0.0", "in quotes"]),
    "one-class-twice": (GOOD.replace('["0", "1"]', '[0, "0"]'), ["target.classes", "twice"]),
    "three-classes": (GOOD.replace('["0", "1"]', "[0, 1, 2]"), ["needs 2 classes, not 3: 0, 1, 2"]),
    "no-classes": (GOOD.replace('classes = ["0", "1"]\n', ""), ["needs 2 classes, not 0"]),
    "ignore-is-a-text": ('ignore = "Customer ID"\n' + GOOD, ["ignore must be a list", 'ignore = ["id"]']),
    "ignore-of-numbers": ("ignore = [1]\n" + GOOD, ["ignore: 1", "quotes"]),
    "misspelled": (GOOD.replace("classes =", "clases ="), ["target.clases is not a key", "mean target.classes?"]),
    "out-of-place": (GOOD.replace("[columns]", "ignore = []\n[columns]"), ["target.ignore", "above the line [target]"]),
    "unknown": ("x = 1\n" + GOOD, ["x is not a key", "problem_type, ignore, target"]),
    "no-name": (GOOD.replace('name = "churned"\n', ""), ["target.name is missing"]),
    "no-problem-type": (TARGET + COLUMNS, ["problem_type is missing"]),
    "problem-type-is-a-number": (GOOD.replace('"binary_classification"', "2"), ["problem_type must be a text"]),
    "wrong-kind": (GOOD.replace('"number"', '"numeric"'), ["column 'age'", "'number' or 'category'"]),
    "dotted-name": (GOOD.replace("age =", "age.years ="), ["column 'age'", "a name with a dot must be in quotes"]),
    "not-toml": (GOOD.replace("[columns]", "[columns"), ["is not TOML", "line 5"]),
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_with_the_key_and_what_is_right(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(data.DataError) as error:
        data.load_schema(written(tmp_path, text))
    for word in ["model/schema.toml: ", *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_a_file_that_is_absent_or_not_text_is_named_as_its_author_knows_it(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"^model/schema\.toml: there is no such file") as error:
        data.load_schema(tmp_path / "schema.toml")
    assert str(tmp_path) not in str(error.value)
    (tmp_path / "schema.toml").write_bytes(b"# \xff\n" + GOOD.encode())
    with pytest.raises(data.DataError, match=r"^model/schema\.toml: is not UTF-8"):
        data.load_schema(tmp_path / "schema.toml")


# Everything that a model goes through, as a job runs it: in a folder of its own, with its own schema.toml.
LIFE = """
import json, pathlib, shutil, sys, tarfile
sys.path.insert(0, "model")
import evaluate, inference, preprocess, train
preprocess.main(["--input", "data", "--output", "."])
train.main(["--train", "train", "--validation", "validation", "--model-dir", "made", "--num_round", "5"])
pathlib.Path("packed").mkdir()
with tarfile.open("packed/model.tar.gz", "w:gz") as tar:
    tar.add("made", arcname=".")
judged = ["--metric", "accuracy", "--threshold", "0.5", "--min-improvement", "0"]
evaluate.main(["--model", "packed", "--champion", sys.argv[1], "--test", "test", "--output", ".", *judged])
answer = inference.predict_fn(inference.input_fn("9\\n1\\n", "text/csv"), inference.model_fn("made"))
pathlib.Path("answer.json").write_text(json.dumps(answer))
"""


def lived(folder: Path, classes: str, champion: Path) -> dict[str, Any]:
    """What a model with these classes says of itself."""
    shutil.copytree(ROOT / "model", folder / "model")
    written(folder / "model", GOOD.replace('["0", "1"]', classes))
    (folder / "data").mkdir()
    lines = [f"{age / 100},{int(age > 500)}" for age in range(1000)]
    (folder / "data" / "rows.csv").write_text("\n".join(["age,churned", *lines]))
    done = subprocess.run([sys.executable, "-c", LIFE, str(champion)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("answer", "evaluation")}


def test_integers_as_classes_are_what_the_file_says_all_the_way(tmp_path: Path) -> None:
    champion = tmp_path / "champion"
    champion.mkdir()
    (champion / "no-champion.json").write_text("{}")
    texts = lived(tmp_path / "texts", '["0", "1"]', champion)
    integers = lived(tmp_path / "integers", "[0, 1]", champion)
    assert [row["label"] for row in integers["answer"]["predictions"]] == ["1", "0"]
    for found in (texts, integers):
        del found["evaluation"]["lineage"]["artifact_sha256"]
    assert texts == integers
    assert artifact.load(tmp_path / "integers" / "made").schema == artifact.load(tmp_path / "texts" / "made").schema
