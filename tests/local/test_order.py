"""Order of steps, branches, failures, retries, stopping, the cache and selective execution."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from local_lab import BUCKET, Lab, write

from sagegate.errors import SagegateError

GET = "Get"


def out(step: str) -> dict[str, str]:
    return {GET: f"Steps.{step}.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}


def condition(name: str, conditions: list[dict[str, object]], yes: list[object], no: list[object]) -> dict[str, object]:
    arguments = {"Conditions": conditions, "IfSteps": yes, "ElseSteps": no}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def equals(left: object, right: object) -> dict[str, object]:
    return {"Type": "Equals", "LeftValue": left, "RightValue": right}


def test_a_step_reads_the_output_of_an_earlier_step(lab: Lab) -> None:
    first = lab.processing("First", write("'hello'"))
    read = "(base / 'input' / 'before' / 'x.txt').read_text() + ' again'"
    second = lab.processing("Second", write(read), {"before": out("First")})
    done = lab.run(second, first)
    assert done.status == "Succeeded"
    assert lab.get(lab.output(done, "Second") + "/x.txt") == "hello again"
    assert done.steps["First"]["EndTime"] <= done.steps["Second"]["StartTime"]


def test_depends_on_orders_steps_without_data(lab: Lab) -> None:
    done = lab.run(lab.processing("B", write("''"), step={"DependsOn": ["A"]}), lab.processing("A", write("''")))
    assert done.steps["A"]["EndTime"] <= done.steps["B"]["StartTime"]


def test_independent_steps_run_in_parallel(lab: Lab, tmp_path: Path) -> None:
    """Each of the two jobs waits for the other, so they would never end one after the other."""
    for name in ("a", "b"):
        os.mkfifo(f"{tmp_path}/{name}")
    a = f"import sys\nopen('{tmp_path}/a', 'w').close()\nopen('{tmp_path}/b').close()\n"
    b = f"import sys\nopen('{tmp_path}/a').close()\nopen('{tmp_path}/b', 'w').close()\n"
    done = lab.run(lab.processing("A", a + write("''")), lab.processing("B", b + write("''")))
    assert done.status == "Succeeded"


def test_a_failed_step_blocks_only_its_dependents(lab: Lab) -> None:
    bad = lab.processing("Bad", "import sys; sys.exit('no luck')")
    after = lab.processing("After", write("''"), {"before": out("Bad")})
    other = lab.processing("Other", write("''"))
    last = lab.processing("Last", write("''"), {"before": out("Other")})
    done = lab.run(bad, after, other, last)
    assert done.status == "Failed"
    assert done.reason == "Step Bad failed: no luck (exit code 1)"
    assert {name: s["StepStatus"] for name, s in done.steps.items()} == {
        "Bad": "Failed",
        "Other": "Succeeded",
        "Last": "Succeeded",
    }


@pytest.mark.parametrize(
    ("conditions", "taken"),
    [
        ([equals(1, 1), equals("a", "a")], "Yes"),
        ([equals(1, 1), equals(1, 2)], "No"),
        ([{"Type": "Not", "Expression": equals(1, 2)}], "Yes"),  # as SDK v2 writes it
        ([{"Type": "Not", "Condition": equals(1, 1)}], "No"),  # as SDK v3 does
        ([{"Type": "Not", "Condition": {"Type": "Or", "Conditions": [equals(1, 2), equals(2, 3)]}}], "Yes"),
        ([{"Type": "Or", "Conditions": [equals(1, 2), equals(2, 2)]}], "Yes"),
        ([{"Type": "In", "QueryValue": "b", "Values": ["a", "b"]}], "Yes"),
        ([{"Type": "GreaterThan", "LeftValue": 2, "RightValue": 2}], "No"),
        ([{"Type": "GreaterThanOrEqualTo", "LeftValue": 2, "RightValue": 2}], "Yes"),
        ([{"Type": "LessThan", "LeftValue": 1.5, "RightValue": 2}], "Yes"),
        ([{"Type": "LessThanOrEqualTo", "LeftValue": 3, "RightValue": 2}], "No"),
    ],
)
def test_conditions_choose_one_branch(lab: Lab, conditions: list[dict[str, object]], taken: str) -> None:
    yes, no = lab.processing("Yes", write("''")), lab.processing("No", write("''"))
    done = lab.run(condition("If", conditions, [yes], [no]))
    assert done.status == "Succeeded"
    assert set(done.steps) == {"If", taken}
    assert done.steps["If"]["Metadata"]["Condition"]["Outcome"] == str(taken == "Yes")


def test_depends_on_a_failure_is_an_error(lab: Lab) -> None:
    notify = lab.processing("Notify", "", step={"DependsOn": [{"Step": "Train", "Trigger": "Failed"}]})
    with pytest.raises(SagegateError, match="step Notify: DependsOn: Train Failed: only Completed runs"):
        lab.run(lab.processing("Train", ""), notify)


def test_nested_conditions(lab: Lab) -> None:
    inner = condition("Inner", [equals(1, 2)], [lab.processing("A", write("''"))], [lab.processing("B", write("''"))])
    done = lab.run(condition("Outer", [equals(1, 1)], [inner], [lab.processing("C", write("''"))]))
    assert set(done.steps) == {"Outer", "Inner", "B"}


def test_a_fail_step_fails_the_execution_with_its_message(lab: Lab) -> None:
    message = {"Std:Join": {"On": " ", "Values": ["too low:", {GET: "Parameters.Score"}]}}
    fail = {"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": message}}
    done = lab.run(
        condition("If", [equals(1, 1)], [fail], []),
        parameters=[{"Name": "Score", "Type": "Float", "DefaultValue": 0.25}],
    )
    assert (done.status, done.reason) == ("Failed", "too low: 0.25")
    assert done.steps["Stop"]["Metadata"]["Fail"]["ErrorMessage"] == "too low: 0.25"


@pytest.mark.parametrize(
    "source",
    [
        {"PropertyFile": {GET: "Steps.Values.PropertyFiles.V"}},
        {"S3Uri": {"Std:Join": {"On": "/", "Values": [out("Values"), "v.json"]}}},
    ],
)
def test_comparing_text_with_a_number_fails_the_step(lab: Lab, source: dict[str, object]) -> None:
    values = lab.processing("Values", write('\'{"a": "x"}\'', "v.json"))
    values["PropertyFiles"] = [{"PropertyFileName": "V", "OutputName": "out", "FilePath": "v.json"}]
    found = {"Std:JsonGet": source | {"Path": "a"}}
    less = {"Type": "LessThan", "LeftValue": found, "RightValue": 1}
    done = lab.run(values, condition("If", [less], [], []))
    assert done.status == "Failed"
    assert done.reason == 'Step If failed: LessThan: cannot compare "x" with 1'


RETRY = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "IntervalSeconds": 0.01, "BackoffRate": 2, "MaxAttempts": 3}


def dies(times: int, folder: object) -> str:
    """Return the start of a script that is killed `times` times before it works."""
    return (
        f"import os, signal, pathlib\ncount = pathlib.Path('{folder}/count')\n"
        "n = int(count.read_text()) if count.exists() else 0\ncount.write_text(str(n + 1))\n"
        f"if n < {times}: os.kill(os.getpid(), signal.SIGKILL)\n"
    )


@pytest.mark.parametrize(("deaths", "attempts", "status"), [(2, 3, "Succeeded"), (9, 4, "Failed")])
def test_retry_policies(lab: Lab, tmp_path: Path, deaths: int, attempts: int, status: str) -> None:
    step = lab.processing("Flaky", dies(deaths, tmp_path) + write("''"), step={"RetryPolicies": [RETRY]})
    done = lab.run(step)
    assert (done.status, done.steps["Flaky"]["AttemptCount"]) == (status, attempts)


def test_a_retry_policy_expires(lab: Lab, tmp_path: Path) -> None:
    policy = RETRY | {"ExpireAfterMin": 0}
    done = lab.run(lab.processing("Flaky", dies(9, tmp_path) + write("''"), step={"RetryPolicies": [policy]}))
    assert (done.status, done.steps["Flaky"]["AttemptCount"]) == ("Failed", 1)


def test_an_error_of_the_script_is_not_retried(lab: Lab) -> None:
    done = lab.run(lab.processing("Bad", "raise SystemExit('wrong')", step={"RetryPolicies": [RETRY]}))
    assert (done.status, done.steps["Bad"]["AttemptCount"]) == ("Failed", 1)


CACHED = {"CacheConfig": {"Enabled": True, "ExpireAfter": "P1D"}}


def test_the_cache_compares_arguments_and_content(lab: Lab) -> None:
    uri = lab.put("data/a.txt", "one")
    text = "(base / 'input' / 'data' / 'a.txt').read_text()"

    def run(**more: Any) -> bool:
        step = lab.processing("Step", write(text), {"data": f"s3://{BUCKET}/data"}, step=CACHED, **more)
        done = lab.run(step)
        assert done.status == "Succeeded"
        return "CacheHitResult" in done.steps["Step"]

    assert [run(), run()] == [False, True]
    assert not run(Environment={"A": "b"})
    lab.put("data/a.txt", "two")
    assert uri and not run()
    assert run()


def test_cached_results_expire_and_need_their_outputs(lab: Lab) -> None:
    expired = {"CacheConfig": {"Enabled": True, "ExpireAfter": "T0m"}}
    step = lab.processing("Step", write("'x'"), step=CACHED)
    first = lab.run(step)
    assert "CacheHitResult" not in lab.run({**step, **expired}).steps["Step"]
    again = lab.run(step)
    assert "CacheHitResult" in again.steps["Step"]
    for run in (first, again):
        lab.store.delete_object(Bucket=BUCKET, Key=lab.output(run, "Step").removeprefix(f"s3://{BUCKET}/") + "/x.txt")
    assert "CacheHitResult" not in lab.run(step).steps["Step"]


def test_failed_runs_are_not_cached(lab: Lab, tmp_path: Path) -> None:
    script = f"import pathlib\nif not pathlib.Path('{tmp_path}/ok').exists(): raise SystemExit('not yet')\n"
    step = lab.processing("Step", script + write("''"), step=CACHED)
    assert lab.run(step).status == "Failed"
    Path(f"{tmp_path}/ok").touch()
    assert lab.run(step).status == "Succeeded"


def test_selected_steps_use_the_results_of_an_earlier_execution(lab: Lab) -> None:
    first = lab.processing("First", write("os.urandom(8).hex()"))
    second = lab.processing("Second", write("(base / 'input' / 'x' / 'x.txt').read_text()"), {"x": out("First")})
    third = lab.processing("Third", write("''"), {"x": out("Second")})
    before = lab.run(first, second, third)
    chosen = {"SelectedSteps": [{"StepName": "Second"}], "SourcePipelineExecutionArn": before.arn}
    done = lab.run(first, second, third, SelectiveExecutionConfig=chosen)
    assert done.status == "Succeeded"
    assert done.steps["First"]["SelectiveExecutionResult"]["SourcePipelineExecutionArn"] == before.arn
    assert set(done.steps) == {"First", "Second"}
    assert lab.get(lab.output(done, "Second") + "/x.txt") == lab.get(lab.output(before, "First") + "/x.txt")


def test_selecting_a_step_after_a_failed_one_is_an_error(lab: Lab) -> None:
    first = lab.processing("First", "raise SystemExit(1)")
    second = lab.processing("Second", write("''"), {"x": out("First")})
    chosen = {"SelectedSteps": [{"StepName": "Second"}], "SourcePipelineExecutionArn": lab.run(first, second).arn}
    with pytest.raises(SagegateError, match="step First is needed and did not succeed"):
        lab.run(first, second, SelectiveExecutionConfig=chosen)


def test_retry_runs_only_steps_that_did_not_succeed(lab: Lab, tmp_path: Path) -> None:
    good = lab.processing("Good", write("os.urandom(8).hex()"))
    script = f"import pathlib\nif not pathlib.Path('{tmp_path}/ok').exists(): raise SystemExit('not yet')\n"
    bad = lab.processing("Bad", script + write("''"), {"x": out("Good")})
    failed = lab.run(good, bad)
    assert failed.status == "Failed"
    Path(f"{tmp_path}/ok").touch()
    lab.client.retry_pipeline_execution(PipelineExecutionArn=failed.arn)
    done = lab.ended(failed.arn)
    assert (done.status, done.reason) == ("Succeeded", "")
    assert done.steps["Good"] == failed.steps["Good"]
    with pytest.raises(SagegateError, match="only a Failed or Stopped one"):
        lab.client.retry_pipeline_execution(PipelineExecutionArn=failed.arn)


def test_stop_ends_the_jobs(lab: Lab, tmp_path: Path) -> None:
    os.mkfifo(f"{tmp_path}/started")
    script = f"import signal\nopen('{tmp_path}/started', 'w').close()\nsignal.pause()\n"
    text = {"Version": "2020-12-01", "Parameters": [], "Steps": [lab.processing("Endless", script)]}
    lab.client.create_pipeline(PipelineName="e", PipelineDefinition=json.dumps(text), RoleArn="r")
    arn = lab.client.start_pipeline_execution(PipelineName="e")["PipelineExecutionArn"]
    open(f"{tmp_path}/started").close()
    lab.client.stop_pipeline_execution(PipelineExecutionArn=arn)
    done = lab.ended(arn)
    assert (done.status, done.steps["Endless"]["StepStatus"]) == ("Stopped", "Stopped")


@pytest.mark.parametrize("kind", ["Callback", "EMR", "QualityCheck", "ClarifyCheck", "AutoML"])
def test_unsupported_step_types_are_an_error_before_anything_runs(lab: Lab, kind: str) -> None:
    with pytest.raises(SagegateError, match=f"step Odd: steps of type {kind} do not run"):
        lab.run({"Name": "Odd", "Type": kind, "Arguments": {}})
    assert not (lab.root / ".mlops" / "executions").exists()
