"""Edits that plant a bug in a generated project."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sagegate.files import Json

Plant = Callable[[Path], None]


def definition(change: Callable[[Json], None]) -> Plant:
    """Change the compiled definition, as compiling a changed pipeline.py would."""

    def plant(project: Path) -> None:
        file = project / "pipeline" / "definition.json"
        found = json.loads(file.read_text(encoding="utf-8"))
        change(found)
        file.write_text(json.dumps(found, indent=2), encoding="utf-8")

    return plant


def text(file: str, old: str, new: str) -> Plant:
    """Replace text, which must be there."""

    def plant(project: Path) -> None:
        path = project / file
        before = path.read_text(encoding="utf-8")
        assert old in before, f"{file} has no {old!r}"
        path.write_text(before.replace(old, new), encoding="utf-8")

    return plant


def steps(found: Json) -> dict[str, Json]:
    """Return the steps by name, with those of the gate's branches."""
    branches = found["Steps"][3]["Arguments"]
    return {step["Name"]: step for step in [*found["Steps"], *branches["IfSteps"], *branches["ElseSteps"]]}


def of_gate(key: str, change: Callable[[list[Any]], None]) -> Plant:
    return definition(lambda found: change(steps(found)["Gate"]["Arguments"][key]))


def set_condition(index: int, field: str, value: object) -> Plant:
    return of_gate("Conditions", lambda conditions: conditions[index].__setitem__(field, value))


def swap_branches(found: Json) -> None:
    gate = steps(found)["Gate"]["Arguments"]
    gate["IfSteps"], gate["ElseSteps"] = gate["ElseSteps"], gate["IfSteps"]


def register_without_gate(found: Json) -> None:
    found["Steps"].append(steps(found)["Gate"]["Arguments"]["IfSteps"].pop(0))


def either_half(found: Json) -> None:
    arguments = steps(found)["Gate"]["Arguments"]
    arguments["Conditions"] = [{"Type": "Or", "Conditions": arguments["Conditions"]}]


def compare_with_itself(found: Json) -> None:
    condition = steps(found)["Gate"]["Arguments"]["Conditions"][0]
    condition["RightValue"] = condition["LeftValue"]


def set_input(step: str, name: str, source: object) -> Plant:
    def change(found: Json) -> None:
        inputs = {entry["InputName"]: entry for entry in steps(found)[step]["Arguments"]["ProcessingInputs"]}
        inputs[name]["S3Input"]["S3Uri"] = source

    return definition(change)


def champion_from_the_candidate_s_folder(found: Json) -> None:
    arguments = steps(found)["Evaluate"]["Arguments"]["AppSpecification"]["ContainerArguments"]
    arguments[arguments.index("--champion") + 1] = "/opt/ml/processing/input/model"


def hard_coded_threshold(found: Json) -> None:
    arguments = steps(found)["Evaluate"]["Arguments"]["AppSpecification"]["ContainerArguments"]
    arguments[arguments.index("--threshold") + 1] = "0.0"


def train_on(source: object) -> Plant:
    def change(found: Json) -> None:
        channels = steps(found)["Train"]["Arguments"]["InputDataConfig"]
        channels[1]["DataSource"]["S3DataSource"]["S3Uri"] = source

    return definition(change)


def set_argument(step: str, key: str, value: object) -> Plant:
    return definition(lambda found: steps(found)[step]["Arguments"].__setitem__(key, value))


def register_another(found: Json) -> None:
    container = steps(found)["Register"]["Arguments"]["InferenceSpecification"]["Containers"][0]
    container["ModelDataUrl"] = "s3://somewhere/model.tar.gz"
