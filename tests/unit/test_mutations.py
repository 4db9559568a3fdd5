"""Random changes of the definition: each is accepted, or refused in one line that names the place."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from sagegate.errors import SagegateError
from sagegate.pipeline.definition import load, parameter_values
from sagegate.pipeline.shapes import argument_errors
from sagegate.pipeline.validate import reference_errors

FILE = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}" / "pipeline" / "definition.json"
DEFINITION = json.loads(FILE.read_text(encoding="utf-8"))
VALUES: list[Any] = [
    *(None, 0, -1, 1.5, True, "", "x", "\0", [], {}, [None], 10**400, {"a": {"b": []}}, DEFINITION["Steps"][0]),
    *({"Get": 1}, {"Get": "Parameters.X"}, {"Get": "Steps.Train"}, {"Std:Join": {}}, {"Std:Join": None}),
    *({"Std:JsonGet": {}}, {"Std:JsonGet": None}, {"Std:Join": {"Values": [{"Std:Join": {"Values": [None]}}]}}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


def mutated(seed: int) -> Any:
    """Return the definition with one or two values changed or removed."""
    random_ = random.Random(seed)
    changed = copy.deepcopy(DEFINITION)
    for _ in range(random_.choice([1, 1, 2])):
        *way, last = random_.choice(places(changed))
        inner = changed
        for key in way:
            inner = inner[key]
        if random_.random() < 0.3:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(random_.choice(VALUES))
    return changed


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_a_changed_definition_is_accepted_or_refused_with_its_place(tmp_path: Path, first: int) -> None:
    file = tmp_path / "pipeline" / "definition.json"
    file.parent.mkdir()
    refused = 0
    for seed in range(first, first + 100):
        file.write_text(json.dumps(mutated(seed)), encoding="utf-8")
        try:
            found = load(tmp_path)
            errors = list(reference_errors(found)) or list(argument_errors(found))
            parameter_values(found, {each["Name"]: "1" for each in found.get("Parameters") or []})
        except SagegateError as error:
            errors = [str(error)]
        except Exception as error:
            raise AssertionError(f"seed {seed}: {mutated(seed)}") from error
        refused += bool(errors)
        for message in errors:
            assert "\n" not in message, f"seed {seed}"
            place = message.removeprefix("pipeline/definition.json: ").removesuffix(": run `sagegate compile`")
            assert any(word in place for word in ("step", "Steps", "arameter", "Version", "Metadata")), message
    assert 30 < refused < 100
