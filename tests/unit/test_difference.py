"""What differs between two definitions, and what that means for the cache: the pure part of `sagegate plan`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sagegate.pipeline.definition import steps_of
from sagegate.plan import (
    Change,
    Forecast,
    Outline,
    Section,
    Success,
    changes,
    compare,
    counting,
    forecast,
    render,
    to_markdown,
)

Json = dict[str, Any]
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def get(name: str) -> Json:
    return {"Get": name}


def step(name: str, kind: str = "Processing", cache: Json | None = None, **arguments: Any) -> Json:
    body: Json = {"Name": name, "Type": kind, "Arguments": arguments}
    return body | ({"CacheConfig": cache} if cache else {})


def data_input(name: str, uri: Any) -> Json:
    return {"InputName": name, "S3Input": {"S3Uri": uri, "LocalPath": f"/opt/ml/{name}"}}


def definition(*steps: Json, **defaults: Any) -> Json:
    kinds = {int: "Integer", float: "Float", str: "String"}
    parameters = [{"Name": n, "Type": kinds[type(v)], "DefaultValue": v} for n, v in defaults.items()]
    return {"Version": "2020-12-01", "Metadata": {"Source": "x"}, "Parameters": parameters, "Steps": list(steps)}


CASES = {
    "a-field": ({"A": {"B": 1}}, {"A": {"B": 2}}, [Change("changed", "A.B", 1, 2)]),
    "a-new-key": ({"Environment": {}}, {"Environment": {"X": "1"}}, [Change("added", "Environment.X", None, "1")]),
    "a-gone-key": (
        {"HyperParameters": {"eta": "1", "seed": "2"}},
        {"HyperParameters": {"eta": "1"}},
        [Change("removed", "HyperParameters.seed", "2", None)],
    ),
    "inputs-by-name": (
        {"ProcessingInputs": [data_input("code", "s3://a"), data_input("data", "s3://b")]},
        {
            "ProcessingInputs": [
                data_input("more", "s3://c"),
                data_input("code", "s3://a"),
                data_input("data", "s3://d"),
            ]
        },
        [
            Change("added", "ProcessingInputs[more]", None, data_input("more", "s3://c")),
            Change("changed", "ProcessingInputs[data].S3Input.S3Uri", "s3://b", "s3://d"),
        ],
    ),
    "inputs-in-another-order": (
        {"ProcessingInputs": [data_input("code", "s3://a"), data_input("data", "s3://b")]},
        {"ProcessingInputs": [data_input("data", "s3://b"), data_input("code", "s3://a")]},
        [],
    ),
    "channels-by-name": (
        {"InputDataConfig": [{"ChannelName": "train", "ContentType": "a"}]},
        {"InputDataConfig": [{"ChannelName": "train", "ContentType": "b"}]},
        [Change("changed", "InputDataConfig[train].ContentType", "a", "b")],
    ),
    "arguments-by-what-stays": (
        {"ContainerArguments": ["--input", "/a", "--seed", "1"]},
        {"ContainerArguments": ["--input", "/a", "--fast", "--seed", "2"]},
        [
            Change("added", "ContainerArguments[2]", None, "--fast"),
            Change("changed", "ContainerArguments[4]", "1", "2"),
        ],
    ),
    "a-reference-is-one-value": (
        {"InstanceType": get("Parameters.A")},
        {"InstanceType": get("Parameters.B")},
        [Change("changed", "InstanceType", get("Parameters.A"), get("Parameters.B"))],
    ),
    "a-reference-for-a-table": (
        {"VpcConfig": {"Subnets": ["a"]}},
        {"VpcConfig": get("Parameters.V")},
        [Change("changed", "VpcConfig", {"Subnets": ["a"]}, get("Parameters.V"))],
    ),
    "nothing": ({"A": [1, {"Name": "x"}]}, {"A": [1, {"Name": "x"}]}, []),
}


@pytest.mark.parametrize(("old", "new", "wanted"), CASES.values(), ids=CASES.keys())
def test_fields(old: Json, new: Json, wanted: list[Change]) -> None:
    assert list(changes(old, new)) == wanted


def test_steps_and_parameters() -> None:
    inner = step("Register", "RegisterModel", ModelPackageGroupName="m")
    gate = step("Gate", "Condition", Conditions=[], IfSteps=[inner], ElseSteps=[])
    moved = step("Gate", "Condition", Conditions=[], IfSteps=[], ElseSteps=[inner])
    old = definition(step("Old"), step("Train", "Training", HyperParameters={"eta": "1"}), gate, eta=1, gone=2)
    new = definition(step("New"), step("Train", "Training", HyperParameters={"eta": "2"}), moved, eta=1.5, fresh="x")
    found = compare(old, new)
    assert found.added == ["New"] and found.removed == ["Old"]
    assert found.steps["Train"] == [Change("changed", "Arguments.HyperParameters.eta", "1", "2")]
    assert found.steps["Register"] == [Change("changed", "Branch", "Gate holds", "Gate does not hold")]
    assert "Gate" not in found.steps  # a nested step's change is its own
    names = {(c.kind, c.path) for c in found.parameters}
    assert {("changed", "eta"), ("changed", "eta (Type)"), ("removed", "gone"), ("added", "fresh")} <= names
    assert not compare(old, old | {"Metadata": {"Source": "y"}})


def test_values_are_shown_short() -> None:
    joined = {"Std:Join": {"On": "/", "Values": [get("Parameters.ArtifactsUri"), "train"]}}
    assert render(joined) == "Parameters.ArtifactsUri/train"
    uri = "s3://a-bucket-with-a-long-name-111122223333/project/code/0123456789abcdef/sourcedir.tar.gz"
    assert render(uri, 50) == "s3://…/code/0123456789abcdef/sourcedir.tar.gz"
    assert len(render("x" * 500, 40)) == 40


def test_markdown_holds_what_a_value_may_hold() -> None:
    rows = [["~", "a|b", "x\ny `z`", "<img src=x>"]]
    text = to_markdown(Outline("title", ["careful"], [Section("Fields", ["", "field", "old", "new"], rows, (1, 2))]))
    assert "| ~ | `a\\|b` | `x y 'z'` | &lt;img src=x&gt; |" in text
    assert text.startswith("### title\n\n> [!WARNING]\n> careful")
    folded = to_markdown(Outline("title", [], [Section("Fields", ["a"], [[str(n)] for n in range(30)])]))
    assert "<details><summary>Fields (30)</summary>\n\n| a |" in folded and folded.rstrip().endswith("</details>")


# --- the cache ---

ON = {"Enabled": True, "ExpireAfter": "P30D"}
PROPERTY = get("Steps.Preprocess.ProcessingOutputConfig.Outputs['train'].S3Output.S3Uri")


def pipeline(cache: Json | None = ON, **defaults: Any) -> Json:
    preprocess = step(
        "Preprocess",
        cache=cache,
        AppSpecification={"ImageUri": "i"},
        ProcessingInputs=[data_input("data", get("Parameters.Data"))],
        ProcessingResources={"InstanceCount": get("Parameters.Count")},
    )
    channel = {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": PROPERTY}}}
    train = step("Train", "Training", ON, HyperParameters={"eta": get("Parameters.eta")}, InputDataConfig=[channel])
    gate = step("Gate", "Condition", Conditions=[], IfSteps=[step("Register", "RegisterModel")], ElseSteps=[])
    gate["DependsOn"] = ["Train"]
    return definition(preprocess, train, gate, **({"Data": "s3://b/1", "Count": 1, "eta": "0.1"} | defaults))


def values(body: Json) -> Json:
    return {p["Name"]: p["DefaultValue"] for p in body["Parameters"]}


def forecasts(
    old: Json | None, new: Json, age: timedelta = timedelta(days=1), has_result: Any = None
) -> dict[str, Forecast]:
    earlier: dict[str, list[Success]] = {}
    for name, found in steps_of(old).items() if old else ():
        arguments = counting(found, values(old or {}))
        if arguments is not None:
            earlier[name] = [Success(arguments, "abc", NOW - age)]
    return {f.step: f for f in forecast(steps_of(new), values(new), earlier, NOW, has_result)}


def verdicts(found: dict[str, Forecast]) -> list[str]:
    return [found[name].verdict for name in ("Preprocess", "Train", "Gate", "Register")]


def test_what_is_the_same_is_cached() -> None:
    found = forecasts(pipeline(), pipeline())
    assert verdicts(found) == ["cached", "cached", "runs", "runs if Gate passes"]
    assert "abc" in found["Train"].why and "RegisterModel" in found["Register"].why


def test_another_instance_count_is_no_other_result() -> None:
    assert verdicts(forecasts(pipeline(), pipeline(Count=2)))[:2] == ["cached", "cached"]


def test_a_changed_argument_runs_its_step_and_those_that_read_from_it() -> None:
    found = forecasts(pipeline(), pipeline(Data="s3://b/2"))
    assert verdicts(found)[:2] == ["runs", "runs"]
    assert "ProcessingInputs[data].S3Input.S3Uri: s3://b/1 → s3://b/2" in found["Preprocess"].why
    assert found["Train"].why == "Preprocess runs"


def test_a_changed_hyperparameter_leaves_the_steps_before() -> None:
    found = forecasts(pipeline(), pipeline(eta="0.2"))
    assert verdicts(found)[:2] == ["cached", "runs"]
    assert found["Train"].why == "HyperParameters.eta: 0.1 → 0.2"


def test_caches_expire_and_can_be_off() -> None:
    old = forecasts(pipeline(), pipeline(), timedelta(days=31))
    assert verdicts(old)[:2] == ["runs", "runs"] and "older than P30D" in old["Preprocess"].why
    off = forecasts(pipeline(), pipeline(cache=None))
    assert verdicts(off)[:2] == ["runs", "runs"] and "cache is off" in off["Preprocess"].why


def test_the_first_execution_runs_all() -> None:
    found = forecasts(None, pipeline())
    assert verdicts(found)[:2] == ["runs", "runs"] and "not succeeded before" in found["Train"].why


def test_this_machines_cache_has_the_last_word() -> None:
    found = forecasts(pipeline(), pipeline(), has_result=lambda step: step.name != "Train")
    assert verdicts(found)[:2] == ["cached", "runs"] and "contents" in found["Train"].why
