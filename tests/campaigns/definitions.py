"""Random changes of the definition: each is accepted, or refused in one line that names the place."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, Case, Chance, check_message
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


def mutate(document: Any, values: list[Any], chance: Chance) -> Any:
    """Return the document with one or two values changed or removed."""
    changed = copy.deepcopy(document)
    for _ in range(chance.choice([1, 1, 2])):
        *way, last = chance.choice(places(changed))
        inner = changed
        for key in way:
            inner = inner[key]
        if chance.random() < 0.3:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(chance.choice(values))
    return changed


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: one changed definition, through everything that reads one."""
    file = folder / "pipeline" / "definition.json"
    file.parent.mkdir()

    def case(chance: Chance) -> None:
        file.write_text(json.dumps(mutate(DEFINITION, VALUES, chance)), encoding="utf-8")
        try:
            found = load(folder)
            errors = list(reference_errors(found)) or list(argument_errors(found))
            parameter_values(found, {each["Name"]: "1" for each in found.get("Parameters") or []})
        except SagegateError as error:
            errors = [str(error)]
        for message in errors:
            place = message.removeprefix("pipeline/definition.json: ").removesuffix(": run `sagegate compile`")
            check_message(ValueError(place), "step", "Steps", "arameter", "Version", "Metadata")

    yield case


CAMPAIGN = Campaign(
    "definitions", "a changed definition is refused in one line that names the place", 2000, 150, prepare
)
