"""The same commands locally and on AWS: every test runs with `--env local` and with `--env dev`.

AWS is a fake in a process of its own: boto3 validates each request, and the fake's pipelines train models.
"""

import json
import re
import subprocess

import pytest
from fakes.remote import client
from places import ACCOUNT, Place, execution

from sagegate.runs.executions import execution_definition
from sagegate.runs.start import RunOptions, prepare, start, upsert
from sagegate.session import open_session


def test_train_approve_and_reject(place: Place) -> None:
    assert "no model is registered yet" in place.run("models")
    assert "nothing has run yet" in place.run("status")

    first = place.run("run")
    assert f"{place.name} · execution" in first and "pipeline created" in first
    assert "model 1 registered" in first and "no champion yet" in first
    for step in ("Preprocess", "Train", "Evaluate", "Gate", "Register"):
        assert re.search(rf"Succeeded +{step} ", first)

    if place.name == "dev":
        assert re.search(r"logs: https://us-east-1\.console\.aws\.amazon\.com/cloudwatch/\S+", first)
        assert re.search(r"billed: \d+ instance seconds \(Preprocess \d", first)
    assert "nothing new to run: model 1 (PendingManualApproval) was made from this code" in place.run("run")
    again = place.run("run", "--again")
    assert "pipeline unchanged" in again and re.search(r"Train +\d\.\d\d s  cached", again)

    place.run("approve", "1", "--reason", "the first one")
    assert "Approved · champion" in place.run("models")
    shown = place.run("models", "1")
    assert execution(first) in shown and "the first one" in shown and "data version" in shown

    worse = place.run("run", "--set", "num_round=2", "--set", "max_depth=1", code=3)
    assert "Candidate rejected" in worse and "nothing was registered" in worse and "champion v1" in worse
    table = place.run("models", "--compare")
    assert re.search(rf"{execution(worse)} +Rejected +auc 0\.\d+ +max_depth=1 num_round=2", table), table
    assert re.search(rf"{execution(first)} +Passed +1 +auc 0\.\d+ *\n", table)
    assert max(map(len, table.splitlines())) <= 100

    listed = place.run("status")
    assert listed.index(execution(worse)) < listed.index(execution(again)) < listed.index(execution(first))
    assert re.search(rf"{execution(worse)} +Rejected .*Candidate", listed)
    assert "✘ Rejected: " in place.run("status", execution(worse))

    place.run("reject", "1", "--reason", "a leak was found")
    assert "Rejected" in place.run("models") and "champion" not in place.run("models")


def test_running_a_part_of_the_pipeline(place: Place) -> None:
    first = place.run("run")
    part = place.run("run", "--from", "Evaluate")
    assert f"taken from {execution(first)}" in part and re.search(r"Evaluate +\d", part)
    only = place.run("run", "--only", "Evaluate")
    assert "Register" not in only
    assert "no step" in place.run("run", "--only", "Evaluat", code=2)


def test_a_failed_step_is_shown_and_can_be_retried(place: Place) -> None:
    place.edit("model/train.py", "def main(", "raise RuntimeError('the disc is on fire')\n\n\ndef main(")
    failed = place.run("run", code=1)
    assert "RuntimeError: the disc is on fire" in failed and "Train" in failed
    shown = place.run("status", execution(failed))
    assert "the disc is on fire" in shown
    # A retry runs the code of the first attempt, so it fails again.
    assert "the disc is on fire" in place.run("run", "--retry", execution(failed), code=1)


def test_following_an_execution_that_has_ended(place: Place) -> None:
    name = execution(place.run("run"))
    assert "model 1 registered" in place.run("status", name, "--follow")
    assert "has ended already: Succeeded" in place.run("stop", name, code=1)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("run", "--set", "max_dept=3"), 2, "did you mean max_depth"),
        (("run", "--set", "max_depth=deep"), 2, "max_depth is Integer"),
        (("run", "--set", f"eta=0.{'1' * 256}"), 2, "the model records what is set, at most 256 letters, digits"),
        (("run", "--set", "InputDataVersion=a;b"), 2, "the model records what is set, at most 256 letters, digits"),
        (("run", "--retry", "abcdefghijkl"), 1, "there is no execution abcdefghijkl"),
        (("status", "abcdefghijkl"), 1, "there is no execution abcdefghijkl"),
        (("models", "7"), 1, "there is no model 7: there are none"),
        (("approve", "7", "--reason", "x"), 1, "there is no model 7"),
        (("run", "--from", "Train"), 1, "no earlier execution"),
    ],
    ids=["parameter", "type", "length", "metadata", "retry", "status", "model", "approve", "from"],
)
def test_mistakes_are_one_line(place: Place, args: tuple[str, ...], code: int, message: str) -> None:
    output = place.run(*args, code=code).strip()
    assert message in output and len(output.splitlines()) == 1


def test_on_aws_a_run_chooses_neither_its_gate_nor_its_commit(dev: Place) -> None:
    for forged in ("GateThreshold=0.1", "CodeCommit=1111", "StartedBy=octocat", "TrainCode=s3://b/k"):
        said = dev.run("run", "--set", "max_depth=3", "--set", forged, code=2).strip()
        assert f"--set {forged.partition('=')[0]}: on AWS only hyperparameters can be set (" in said
        assert len(said.splitlines()) == 1
    assert "nothing has run yet" in dev.run("status")


def test_nothing_starts_that_sagemaker_would_refuse_after_the_training(dev: Place) -> None:
    dev.edit("environments/dev.toml", '"ml.m5.xlarge"', '"ml.m5.xlage"')
    said = dev.run("run", code=2)
    assert "step Train: ResourceConfig.InstanceType: botocore" in said and "has no 'ml.m5.xlage' there" in said
    assert "nothing has run yet" in dev.run("status")


def test_a_model_shows_who_started_its_run_and_what_was_overridden(place: Place) -> None:
    """`renovate[bot]` and `DOMAIN\\user` have characters that SageMaker refuses in a model's metadata."""
    place.env["GITHUB_ACTOR"] = "renovate[bot]"
    place.run("run", "--set", "num_round=190", "--set", "max_depth=4")
    shown = place.run("models", "1")
    assert re.search(r"started by +renovate-bot-", shown)
    assert re.search(r"overrides +max_depth=4 num_round=190", shown)


def test_the_upserted_pipeline_is_the_compiled_definition(place: Place) -> None:
    """Only the parameters' defaults differ between environments."""
    place.run("run")
    committed = json.loads((place.project / "pipeline" / "definition.json").read_text(encoding="utf-8"))
    if place.name == "local":
        file = next((place.project / ".mlops" / "pipelines").rglob("*.json"))
        upserted = json.loads(json.loads(file.read_text(encoding="utf-8"))["PipelineDefinition"])
    else:
        pipeline = client("sagemaker", place.env).describe_pipeline(PipelineName="my-model")
        upserted = json.loads(pipeline["PipelineDefinition"])
    assert [p["Name"] for p in upserted["Parameters"]] == [p["Name"] for p in committed["Parameters"]]
    assert all("DefaultValue" in p for p in upserted["Parameters"])
    if place.name == "dev":
        assert upserted["Steps"] == committed["Steps"]
    else:
        assert [step["Arguments"] for step in upserted["Steps"]] == [step["Arguments"] for step in committed["Steps"]]


def test_an_execution_runs_what_its_caller_upserted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two calls of one caller, another one updates the pipeline."""
    for key, value in place.env.items():
        monkeypatch.setenv(key, value)
    mine = open_session(place.project, place.name)
    request = prepare(mine, RunOptions())
    assert upsert(mine, request.body, {})[0] == "created"
    state, version = upsert(mine, request.body, {})
    assert state == "unchanged"

    place.edit("mlops.toml", "max_depth = 4", "max_depth = 9")
    theirs = open_session(place.project, place.name)
    assert upsert(theirs, prepare(theirs, RunOptions()).body, {}) == ("updated", version + 1)

    arn = start(mine, version, {}, frozenset())
    assert execution_definition(mine, arn) == json.loads(request.body)
    mine.close()


def test_a_model_records_its_commit(place: Place) -> None:
    def git(*args: str) -> str:
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        done = subprocess.run(["git", *identity, *args], cwd=place.project, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    place.run("run")
    assert git("rev-parse", "HEAD") in place.run("models", "1")


def test_a_model_that_no_pipeline_registered_stops_no_run(dev: Place) -> None:
    container = {
        "Image": f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/x:1",
        "ModelDataUrl": "s3://elsewhere/model.tar.gz",
    }
    sagemaker = client("sagemaker", dev.env)
    sagemaker.create_model_package_group(ModelPackageGroupName="my-model")
    sagemaker.create_model_package(
        ModelPackageGroupName="my-model",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )
    assert "model 2 registered" in dev.run("run")
