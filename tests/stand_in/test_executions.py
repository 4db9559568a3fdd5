"""Pipelines that truly run, through boto3 over HTTP."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from local_lab import BUCKET, write

from stand_in.aws_lab import AwsLab, client, job_of, token
from stand_in.server import StandIn

Json = dict[str, Any]
NOTHING = write("''")


def out(step: str) -> dict[str, str]:
    return {"Get": f"Steps.{step}.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}


def refused(call: Any, **request: Any) -> tuple[str, str]:
    """The code and message with which a call is refused."""
    with pytest.raises(ClientError) as error:
        call(**request)
    said = error.value.response["Error"]
    return str(said["Code"]), str(said["Message"])


def waiting(gate: Path) -> str:
    """A script that runs until somebody opens a named pipe for writing."""
    return f"open({str(gate)!r}).read()\n" + NOTHING


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def test_a_job_reads_what_boto3_uploaded_and_boto3_reads_what_it_wrote(aws: AwsLab) -> None:
    aws.put("in/a.txt", "7")
    script = write("str(int((base / 'input/data/a.txt').read_text()) * 6)")
    done = aws.run(aws.processing("Work", script, {"data": f"s3://{BUCKET}/in"}))
    assert done.status == "Succeeded"
    assert aws.get(aws.output(done, "Work") + "/x.txt") == "42"


def test_a_token_starts_once_however_often_it_comes(aws: AwsLab) -> None:
    aws.define(aws.processing("Work", NOTHING))
    same = token()
    with ThreadPoolExecutor(8) as pool:
        arns = set(pool.map(lambda _: aws.start(ClientRequestToken=same), range(8)))
    assert len(arns) == 1
    assert aws.start() not in arns
    listed = aws.client.list_pipeline_executions(PipelineName="p")["PipelineExecutionSummaries"]
    assert len(listed) == 2


def test_lists_come_in_pages_the_latest_first(aws: AwsLab) -> None:
    aws.define({"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "no"}})
    arns = [aws.ended(aws.start()).arn for _ in range(12)]
    first = aws.client.list_pipeline_executions(PipelineName="p")
    assert [s["PipelineExecutionArn"] for s in first["PipelineExecutionSummaries"]] == arns[:1:-1]
    rest = aws.client.list_pipeline_executions(PipelineName="p", NextToken=first["NextToken"])
    assert [s["PipelineExecutionArn"] for s in rest["PipelineExecutionSummaries"]] == arns[1::-1]
    assert "NextToken" not in rest
    oldest = aws.client.list_pipeline_executions(PipelineName="p", SortOrder="Ascending", MaxResults=1)
    assert oldest["PipelineExecutionSummaries"][0]["PipelineExecutionArn"] == arns[0]
    assert refused(aws.client.list_pipeline_executions, PipelineName="p", NextToken="x")[0] == "ValidationException"


def test_steps_come_in_pages_the_latest_first(aws: AwsLab) -> None:
    steps = [aws.processing(f"S{i}", NOTHING, step={"DependsOn": [f"S{i - 1}"]} if i else {}) for i in range(3)]
    arn = aws.run(*steps).arn
    call = aws.client.list_pipeline_execution_steps
    first = call(PipelineExecutionArn=arn, MaxResults=2)
    rest = call(PipelineExecutionArn=arn, MaxResults=2, NextToken=first["NextToken"])
    names = [s["StepName"] for s in first["PipelineExecutionSteps"] + rest["PipelineExecutionSteps"]]
    assert names == ["S2", "S1", "S0"]


def test_a_step_names_its_job_while_it_runs_and_a_stop_ends_both(aws: AwsLab, gate: Path) -> None:
    aws.define(aws.processing("Work", waiting(gate)), aws.processing("After", NOTHING, step={"DependsOn": ["Work"]}))
    arn = aws.start()
    aws.until(arn, lambda _: aws.steps(arn).get("Work", {}).get("Metadata"))
    job = job_of(aws.steps(arn)["Work"])
    assert aws.client.describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"] == "InProgress"
    aws.client.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=token())
    done = aws.ended(arn)
    assert (done.status, done.steps["Work"]["StepStatus"], list(done.steps)) == ("Stopped", "Stopped", ["Work"])
    assert aws.client.describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"] == "Stopped"
    aws.client.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=token())  # asked again


def test_what_has_ended_cannot_be_stopped_and_what_succeeded_cannot_be_retried(aws: AwsLab) -> None:
    arn = aws.run(aws.processing("Work", NOTHING)).arn
    for call in (aws.client.stop_pipeline_execution, aws.client.retry_pipeline_execution):
        assert refused(call, PipelineExecutionArn=arn, ClientRequestToken=token())[0] == "ConflictException"


def test_a_retry_runs_what_failed_and_only_that(aws: AwsLab, here: StandIn) -> None:
    here.add_fault("Second", "AlgorithmError: See job logs for more information")
    failed = aws.run(aws.processing("First", NOTHING), aws.processing("Second", NOTHING, {"before": out("First")}))
    assert (failed.status, failed.reason) == ("Failed", "Step failure: One or multiple steps failed.")
    before = {name: job_of(step) for name, step in failed.steps.items()}
    same = token()
    for _ in range(2):
        aws.client.retry_pipeline_execution(PipelineExecutionArn=failed.arn, ClientRequestToken=same)
    done = aws.ended(failed.arn)
    assert done.status == "Succeeded"
    assert job_of(done.steps["First"]) == before["First"]
    assert job_of(done.steps["Second"]) != before["Second"]


def test_the_cache_looks_at_uris_and_not_behind_them(aws: AwsLab) -> None:
    aws.put("in/a.txt", "1")
    cached = {"CacheConfig": {"Enabled": True, "ExpireAfter": "P1D"}}
    step = aws.processing("Work", NOTHING, {"data": f"s3://{BUCKET}/in"}, step=cached)
    first = aws.run(step)
    aws.put("in/a.txt", "2")
    again = aws.run(step)
    assert again.steps["Work"]["CacheHitResult"]["SourcePipelineExecutionArn"] == first.arn
    assert job_of(again.steps["Work"]) == job_of(first.steps["Work"])
    aws.put("elsewhere/a.txt", "1")
    moved = aws.run(aws.processing("Work", NOTHING, {"data": f"s3://{BUCKET}/elsewhere"}, step=cached))
    assert "CacheHitResult" not in moved.steps["Work"]


def test_selected_steps_take_the_rest_from_an_earlier_execution(aws: AwsLab) -> None:
    first = aws.run(aws.processing("First", NOTHING), aws.processing("Second", NOTHING, {"before": out("First")}))
    config = {"SourcePipelineExecutionArn": first.arn, "SelectedSteps": [{"StepName": "Second"}]}
    done = aws.ended(aws.start(SelectiveExecutionConfig=config))
    assert done.steps["First"]["SelectiveExecutionResult"]["SourcePipelineExecutionArn"] == first.arn
    assert job_of(done.steps["Second"]) != job_of(first.steps["Second"])
    described = aws.client.describe_pipeline_execution(PipelineExecutionArn=done.arn)
    assert described["SelectiveExecutionConfig"] == config


def test_parameters_are_checked_and_listed(aws: AwsLab) -> None:
    parameters: list[Json] = [
        {"Name": "Depth", "Type": "Integer", "DefaultValue": 3},
        {"Name": "Word", "Type": "String", "DefaultValue": "a"},
    ]
    aws.define(aws.processing("Work", NOTHING), parameters=parameters)
    for wrong in ({"Name": "Depth", "Value": "deep"}, {"Name": "Width", "Value": "1"}):
        request = {"PipelineName": "p", "ClientRequestToken": token(), "PipelineParameters": [wrong]}
        assert refused(aws.client.start_pipeline_execution, **request)[0] == "ValidationException"
    arn = aws.start(PipelineParameters=[{"Name": "Depth", "Value": "8"}])
    listed = aws.client.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)["PipelineParameters"]
    assert listed == [{"Name": "Depth", "Value": "8"}, {"Name": "Word", "Value": "a"}]


def test_a_definition_that_cannot_be_right_is_refused(aws: AwsLab) -> None:
    bad = aws.processing("Work", NOTHING, {"before": out("Nobody")})
    with pytest.raises(ClientError) as error:
        aws.define(bad)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    assert "there is no step Nobody" in str(error.value)
    assert refused(aws.client.describe_pipeline, PipelineName="p")[0] == "ResourceNotFound"


def test_what_does_not_exist_is_said_as_sagemaker_says_it(aws: AwsLab) -> None:
    sagemaker = aws.client
    arn = "arn:aws:sagemaker:us-east-1:000000000000"
    for call in (sagemaker.describe_pipeline, sagemaker.list_pipeline_executions):
        assert refused(call, PipelineName="none")[0] == "ResourceNotFound"
    assert refused(sagemaker.start_pipeline_execution, PipelineName="none", ClientRequestToken=token()) == (
        "ResourceNotFound",
        f"Pipeline '{arn}:pipeline/none' does not exist.",
    )
    execution = f"{arn}:pipeline/none/execution/abc"
    for call in (sagemaker.describe_pipeline_execution, sagemaker.list_pipeline_execution_steps):
        assert refused(call, PipelineExecutionArn=execution)[0] == "ResourceNotFound"
    package = f"{arn}:model-package/none/1"
    said = refused(sagemaker.describe_model_package, ModelPackageName=package)
    assert said == ("ValidationException", f"ModelPackage {package} does not exist.")


def test_a_pipeline_that_runs_is_deleted_only_when_it_was_stopped(aws: AwsLab, here: StandIn, gate: Path) -> None:
    aws.define(aws.processing("Work", waiting(gate)))
    arn, same = aws.start(), token()
    assert refused(aws.client.delete_pipeline, PipelineName="p", ClientRequestToken=token())[0] == "ConflictException"
    here.forget("p", "000000000000", "us-east-1")
    assert refused(aws.client.describe_pipeline_execution, PipelineExecutionArn=arn)[0] == "ResourceNotFound"
    aws.made.clear()
    aws.define(aws.processing("Work", NOTHING))
    for _ in range(2):  # a repeated call is no error
        aws.client.delete_pipeline(PipelineName="p", ClientRequestToken=same)


def test_a_fail_step_fails_the_execution_with_its_message(aws: AwsLab) -> None:
    conditions = [{"Type": "Equals", "LeftValue": 1, "RightValue": 2}]
    stop = {"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "not good enough"}}
    arguments = {"Conditions": conditions, "IfSteps": [], "ElseSteps": [stop]}
    done = aws.run({"Name": "Gate", "Type": "Condition", "Arguments": arguments})
    assert done.status == "Failed"
    assert done.steps["Stop"]["FailureReason"] == "not good enough"
    assert done.steps["Stop"]["Metadata"]["Fail"]["ErrorMessage"] == "not good enough"
    assert done.steps["Gate"]["Metadata"]["Condition"]["Outcome"] == "False"


def test_tags_of_a_pipeline_are_replaced_by_key(aws: AwsLab) -> None:
    request = {"PipelineName": "p", "PipelineDefinition": '{"Version": "2020-12-01", "Steps": []}', "RoleArn": "r" * 20}
    tags = [{"Key": "commit", "Value": "a"}]
    arn = aws.client.create_pipeline(**request, ClientRequestToken=token(), Tags=tags)["PipelineArn"]
    aws.client.add_tags(ResourceArn=arn, Tags=[{"Key": "commit", "Value": "b"}, {"Key": "project", "Value": "p"}])
    found = aws.client.list_tags(ResourceArn=arn)["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in found} == {"commit": "b", "project": "p"}
    assert len(found) == 2


def test_accounts_do_not_see_each_other(aws: AwsLab, here: StandIn) -> None:
    aws.define(aws.processing("Work", NOTHING))
    other = client("sagemaker", here.environment("111111111111", "us-east-1"))
    assert refused(other.describe_pipeline, PipelineName="p")[0] == "ResourceNotFound"
    identity = client("sts", here.environment("111111111111", "us-east-1")).get_caller_identity()
    assert identity["Account"] == "111111111111"
