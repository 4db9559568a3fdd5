"""`schema.toml`: valid content, and one line for each mistake in it."""

from pathlib import Path

import pytest

import data
import raw_files

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
    "target-in-columns": (GOOD + 'churned = "number"\n', ["the target 'churned' is also a column"]),
    "classes-is-a-text": (GOOD.replace('["0", "1"]', '"01"'), ["target.classes must be a list"]),
    "classes-of-booleans": (GOOD.replace('["0", "1"]', "[false, true]"), ["target.classes: False", "in quotes"]),
    "one-class-twice": (GOOD.replace('["0", "1"]', '[0, "0"]'), ["target.classes", "twice"]),
    "three-classes": (GOOD.replace('["0", "1"]', "[0, 1, 2]"), ["needs 2 classes, not 3: 0, 1, 2"]),
    "no-classes": (GOOD.replace('classes = ["0", "1"]\n', ""), ["needs 2 classes, not 0"]),
    "ignore-is-a-text": ('ignore = "Customer ID"\n' + GOOD, ["ignore must be a list", 'ignore = ["id"]']),
    "ignore-of-numbers": ("ignore = [1]\n" + GOOD, ["ignore: [1]", "quotes"]),
    "misspelled": (GOOD.replace("classes =", "clases ="), ["target.clases is not a key", "target.classes"]),
    "out-of-place": (GOOD.replace("[columns]", "ignore = []\n[columns]"), ["target.ignore is not a key"]),
    "no-name": (GOOD.replace('name = "churned"\n', ""), ["target.name is missing"]),
    "no-problem-type": (TARGET + COLUMNS, ["problem_type is missing"]),
    "wrong-problem-type": (GOOD.replace("binary_", "binary-"), ["'binary-classification' is not one of binary_"]),
    "wrong-kind": (GOOD.replace('"number"', '"numeric"'), ["column 'age'", "'number', 'category' or 'date'"]),
    "date-without-a-form": (
        GOOD.replace('"number"', '"date of birth"'),
        ["column 'age'", "'number', 'category' or 'date'"],
    ),
    "form-of-a-time": (GOOD.replace('"number"', '"date %Q"'), ["column 'age'", "%Q", "directive"]),
    "files-is-a-text": ('files = ";"\n' + GOOD, ["files must be a table", "[files]"]),
    "files-misspelled": (GOOD + '[files]\nseperator = ";"\n', ["files.seperator is not a key", "files.separator"]),
    "two-separators": (GOOD + '[files]\nseparator = "||"\n', ["files.separator '||' must be a character"]),
    "quote-as-separator": (GOOD + "[files]\nseparator = '\"'\n", ["files.separator", "must be a character"]),
    "decimal": (GOOD + '[files]\ndecimal = "x"\n', ["files.decimal 'x' must be"]),
    "decimal-is-the-separator": (GOOD + '[files]\ndecimal = ","\n', ["files.decimal ',' must be", "not the separator"]),
    "encoding": (GOOD + '[files]\nencoding = "utf-9"\n', ["files.encoding 'utf-9' must be the name"]),
    "dotted-name": (GOOD.replace("age =", "age.years ="), ["column 'age'", "a name with a dot must be in quotes"]),
    "not-toml": (GOOD.replace("[columns]", "[columns"), ["line 5"]),
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_with_the_key_and_what_is_right(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(data.DataError) as error:
        data.load_schema(written(tmp_path, text))
    for word in ["model/schema.toml: ", *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_a_missing_file_has_the_name_that_its_author_knows(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"^model/schema\.toml: No such file"):
        data.load_schema(tmp_path / "schema.toml")


def test_integers_as_classes_are_the_text_in_the_file(tmp_path: Path) -> None:
    schema = data.load_schema(written(tmp_path, GOOD.replace('["0", "1"]', "[0, 1]")))
    assert schema == data.load_schema(written(tmp_path, GOOD))
    (tmp_path / "rows.csv").write_text("age,churned\n30,1\n40,0\n")
    table = raw_files.read_folder(tmp_path / "rows.csv", schema)
    assert data.encode_target(table["churned"], schema).tolist() == [1, 0]
