"""The compiled definition: compiling is reproducible, and `sagegate check` reports each way to break it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PROBLEM_TYPES, Bake, RunIn

from sagegate.files import Json
from sagegate.pipeline.shapes import request_errors


def test_a_fraction_for_an_integer_makes_the_definition_stale(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    settings = project / "mlops.toml"
    settings.write_text(settings.read_text().replace("max_depth = 4", "max_depth = 4.5"))
    stale = run_in(project, "sagegate", "check", check=False)
    assert stale.returncode == 1 and "type in [hyperparameters]" in stale.stderr
    plan = run_in(project, "sagegate", "plan", check=False)
    assert plan.returncode == 2 and "max_depth is Integer: 4.5 is not one: " in plan.stderr


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_the_definition_is_the_same_for_every_problem_and_environment(baked: Bake, problem_type: str) -> None:
    text = (baked(problem_type) / "pipeline" / "definition.json").read_text()
    assert text == (baked() / "pipeline" / "definition.json").read_text()
    for word in ("us-east-1", "000000000000", "my-model", "arn:aws", "s3://"):
        assert word not in text, f"{word} belongs to one environment: make it a parameter"


def definition(project: Path) -> Json:
    loaded: Json = json.loads((project / "pipeline" / "definition.json").read_text())
    return loaded


def step(found: Json, name: str) -> Any:
    branches = found["Steps"][3]["Arguments"]
    steps = [*found["Steps"], *branches["IfSteps"], *branches["ElseSteps"]]
    return next(s for s in steps if s["Name"] == name)


def put(name: str, path: list[str | int], value: object) -> Callable[[Json], None]:
    """Return a change that sets one field of a step."""

    def change(found: Json) -> None:
        inner = step(found, name)
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def drop(name: str, path: list[str | int]) -> Callable[[Json], None]:
    def change(found: Json) -> None:
        inner = step(found, name)
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return change


ARGUMENTS = "Arguments"
GET = "Get"
FAULTS = {
    "missing-parameter": (
        put("Train", [ARGUMENTS, "RoleArn"], {GET: "Parameters.Roll"}),
        ["step Train", "RoleArn", "no parameter Roll"],
    ),
    "missing-step": (
        put("Evaluate", [ARGUMENTS, "ProcessingInputs", 1, "S3Input", "S3Uri"], {GET: "Steps.Trane.ModelArtifacts"}),
        ["step Evaluate", "ProcessingInputs[1].S3Input.S3Uri", "no step Trane"],
    ),
    "missing-output": (
        put(
            "Train",
            [ARGUMENTS, "InputDataConfig", 0, "DataSource", "S3DataSource", "S3Uri"],
            {GET: "Steps.Preprocess.ProcessingOutputConfig.Outputs['trian'].S3Output.S3Uri"},
        ),
        ["step Train", "InputDataConfig[0]", "no output 'trian'"],
    ),
    "missing-property": (
        put(
            "Evaluate",
            [ARGUMENTS, "ProcessingInputs", 1, "S3Input", "S3Uri"],
            {GET: "Steps.Train.ModelArtefacts.S3ModelArtifacts"},
        ),
        ["step Evaluate", "Train has no property ModelArtefacts"],
    ),
    "missing-property-file": (drop("Evaluate", ["PropertyFiles"]), ["step Gate", "no property file Evaluation"]),
    "execution-variable": (
        put("Rejected", [ARGUMENTS, "ErrorMessage"], {GET: "Execution.Nonsense"}),
        ["step Rejected", "ErrorMessage", "no execution variable Nonsense"],
    ),
    "depends-on": (put("Train", ["DependsOn"], ["Preproces"]), ["step Train", "DependsOn", "no step Preproces"]),
    "cycle": (put("Preprocess", ["DependsOn"], ["Evaluate"]), ["wait for each other", "Preprocess", "Evaluate"]),
    "unknown-field": (
        put("Train", [ARGUMENTS, "ResourceConfig", "InstanceTypo"], "x"),
        ["step Train", "Unknown parameter in ResourceConfig", "InstanceTypo", "InstanceType"],
    ),
    "missing-field": (
        drop("Train", [ARGUMENTS, "OutputDataConfig"]),
        ["step Train", "Missing required parameter", "OutputDataConfig"],
    ),
    "wrong-type": (
        put("Train", [ARGUMENTS, "ResourceConfig", "VolumeSizeInGB"], "thirty"),
        ["step Train", "Invalid type for parameter ResourceConfig.VolumeSizeInGB", "thirty"],
    ),
    "wrong-parameter-type": (
        put("Train", [ARGUMENTS, "HyperParameters", "max_depth"], {GET: "Parameters.max_depth"}),
        ["step Train", "HyperParameters.max_depth", "expected text", "reference is a number"],
    ),
    "below-minimum": (
        put("Train", [ARGUMENTS, "StoppingCondition", "MaxRuntimeInSeconds"], 0),
        ["step Train", "StoppingCondition.MaxRuntimeInSeconds", "0", "valid min value: 1"],
    ),
    "enum": (
        put("Preprocess", [ARGUMENTS, "ProcessingInputs", 0, "S3Input", "S3InputMode"], "Fille"),
        ["step Preprocess", "S3InputMode", "'Fille'", "File"],
    ),
    "pattern": (
        put("Train", [ARGUMENTS, "OutputDataConfig", "S3OutputPath"], "bucket/models"),
        ["step Train", "OutputDataConfig.S3OutputPath", "'bucket/models' does not match (https|s3)://"],
    ),
    "pattern-of-a-name": (
        put("Preprocess", [ARGUMENTS, "Environment", "NOT-A-NAME"], "x"),
        ["step Preprocess", "Environment, name 'NOT-A-NAME'", "does not match [a-zA-Z_]"],
    ),
    "too-long": (
        put("Preprocess", [ARGUMENTS, "Environment", "NOTE"], "x" * 257),
        ["step Preprocess", "Environment.NOTE", "257 characters, but at most 256"],
    ),
    "too-large": (
        put("Preprocess", [ARGUMENTS, "ProcessingResources", "ClusterConfig", "InstanceCount"], 101),
        ["step Preprocess", "InstanceCount", "101, but at most 100"],
    ),
    "too-many": (
        put("Train", [ARGUMENTS, "Tags"], [{"Key": str(number), "Value": ""} for number in range(51)]),
        ["step Train", "Tags", "51 entries, but at most 50"],
    ),
    "metadata": (
        put("Register", [ARGUMENTS, "CustomerMetadataProperties", "note"], "a;b"),
        ["step Register", "CustomerMetadataProperties.note", "'a;b' does not match"],
    ),
    "text-against-number-inside": (
        put(
            "Gate",
            [ARGUMENTS, "Conditions", 0],
            {
                "Type": "Not",
                "Condition": {
                    "Type": "Or",
                    "Conditions": [{"Type": "LessThan", "LeftValue": {GET: "Parameters.GateMetric"}, "RightValue": 1}],
                },
            },
        ),
        ["step Gate", "Conditions[0]", "LessThan compares text with number"],
    ),
    "text-against-number": (
        put("Gate", [ARGUMENTS, "Conditions", 0, "RightValue"], {GET: "Parameters.GateMetric"}),
        ["step Gate", "Conditions[0]", "GreaterThanOrEqualTo compares"],
    ),
}


@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_check_names_step_field_and_fault(
    bake: Bake, run_in: RunIn, change: Callable[[Json], None], words: list[str]
) -> None:
    project = bake()
    found = definition(project)
    change(found)
    (project / "pipeline" / "definition.json").write_text(json.dumps(found))
    done = run_in(project, "sagegate", "check", check=False)
    assert done.returncode == 1
    line = next((line for line in done.stderr.splitlines() if words[0] in line), done.stderr)
    for word in words:
        assert word in line
    assert "Traceback" not in done.stderr


def test_a_step_must_be_an_object(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    (project / "pipeline" / "definition.json").write_text(json.dumps(definition(project) | {"Steps": [1]}))
    done = run_in(project, "sagegate", "check", check=False)
    assert (
        done.returncode == 1
        and done.stderr
        == "sagegate: pipeline/definition.json: Steps[0]: Expected `object`, got `int`: run `sagegate compile`\n"
    )


def test_run_rejects_a_broken_definition_before_any_job(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    found = definition(project)
    FAULTS["missing-step"][0](found)
    (project / "pipeline" / "definition.json").write_text(json.dumps(found))
    done = run_in(project, "sagegate", "run", check=False)
    assert done.returncode == 1 and "no step Trane" in done.stderr
    assert not (project / ".mlops" / "executions").exists() or not os.listdir(project / ".mlops" / "executions")


def test_check_reads_the_default_values_of_pipeline_py(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    found = definition(project)
    found["Parameters"].append({"Name": "Own", "Type": "String", "DefaultValue": "ml.m5.lage"})
    step(found, "Train")["Arguments"]["ResourceConfig"]["InstanceType"] = {GET: "Parameters.Own"}
    (project / "pipeline" / "definition.json").write_text(json.dumps(found))
    done = run_in(project, "sagegate", "check", check=False)
    assert done.returncode == 1 and "pipeline/definition.json: step Train: ResourceConfig.InstanceType" in done.stderr


def test_a_whole_structure_may_come_from_another_step() -> None:
    """Its content is known only in a run."""
    arguments: Json = {"ModelName": "m", "ExecutionRoleArn": "arn:aws:iam::111122223333:role/x"}
    arguments |= {key: {GET: f"Steps.Train.{key}"} for key in ("VpcConfig", "Containers")}
    assert list(request_errors("CreateModel", arguments)) == []
