"""Jobs of executions: their records, logs and failures, in SageMaker's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.model import ServiceModel
from local_lab import BUCKET, write
from mlops.definitions.check import _shape
from test_jobs import training

from stand_in.aws_lab import AwsLab, job_of
from stand_in.server import StandIn

Json = dict[str, Any]
NOTHING = write("''")
TRAIN = """
import os
open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('x')
print('fitted on', os.environ['SM_CURRENT_HOST'])
"""


def lines(logs: dict[str, list[str]]) -> list[list[str]]:
    return [logs[name] for name in sorted(logs)]


def test_a_training_job_is_described_billed_and_logged_for_each_host(aws: AwsLab) -> None:
    aws.put("data/a.csv", "1")
    done = aws.run(training(aws, TRAIN, count=2))
    assert done.status == "Succeeded", done.steps
    job = job_of(done.steps["Train"])
    described = aws.client.describe_training_job(TrainingJobName=job)
    assert described["TrainingJobStatus"] == "Completed"
    assert described["BillableTimeInSeconds"] >= 1
    assert described["ModelArtifacts"]["S3ModelArtifacts"].startswith(f"s3://{BUCKET}/models/{job}/")
    logs = aws.log_of("Training", job)
    assert [name.rsplit("-", 1)[0] for name in sorted(logs)] == [f"{job}/algo-1", f"{job}/algo-2"]
    assert lines(logs) == [["fitted on algo-1"], ["fitted on algo-2"]]


def test_a_script_that_fails_gives_sagemaker_s_reason_and_its_traceback_in_the_log(aws: AwsLab) -> None:
    done = aws.run(aws.processing("Work", "print('begin')\nraise KeyError('age')\n"))
    step = done.steps["Work"]
    assert step["FailureReason"] == "AlgorithmError: See job logs for more information"
    (written,) = lines(aws.log_of("Processing", job_of(step)))
    assert written[0] == "begin"
    assert written[-1] == "KeyError: 'age'"
    job = aws.client.describe_processing_job(ProcessingJobName=job_of(step))
    assert (job["ProcessingJobStatus"], job["FailureReason"]) == ("Failed", step["FailureReason"])


def test_a_training_script_that_fails_is_quoted(aws: AwsLab) -> None:
    aws.put("data/a.csv", "1")
    done = aws.run(training(aws, "raise ValueError('no rows')\n"))
    reason = done.steps["Train"]["FailureReason"]
    assert reason.startswith('AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: no rows')
    assert reason.endswith(", exit code: 1")


def test_a_job_that_is_killed_for_memory_says_so(aws: AwsLab) -> None:
    done = aws.run(aws.processing("Work", "import os\nos.kill(os.getpid(), 9)\n"))
    assert "use an instance type with more memory" in done.steps["Work"]["FailureReason"]


def test_an_input_that_is_not_there_refuses_the_job(aws: AwsLab) -> None:
    missing = aws.run(aws.processing("Work", NOTHING, {"data": f"s3://{BUCKET}/none"})).steps["Work"]
    assert missing["FailureReason"].startswith("ClientError: Failed to invoke sagemaker:CreateProcessingJob.")
    assert f'No S3 objects found under S3 URL "s3://{BUCKET}/none"' in missing["FailureReason"]
    assert missing["Metadata"] == {}
    nowhere = aws.run(aws.processing("Work", NOTHING, {"data": "s3://no-such-bucket/x"})).steps["Work"]
    assert nowhere["FailureReason"].endswith("Error message from S3: The specified bucket does not exist")


def test_an_output_without_a_bucket_fails_the_job(aws: AwsLab) -> None:
    step = aws.processing("Work", NOTHING)
    step["Arguments"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] = "s3://no-such-bucket/x"
    done = aws.run(step)
    assert "NoSuchBucket: The specified bucket does not exist" in done.steps["Work"]["FailureReason"]
    assert done.steps["Work"]["Metadata"]["ProcessingJob"]["Arn"]


def test_a_role_must_exist_where_roles_are_checked(aws: AwsLab, here: StandIn) -> None:
    here.set_check_roles(True)
    refused = aws.run(aws.processing("Work", NOTHING))
    assert "Could not assume role arn:aws:iam::000000000000:role/x" in refused.steps["Work"]["FailureReason"]
    here.prepare("project", "000000000000", "us-east-1")
    role = "arn:aws:iam::000000000000:role/project-execution"
    assert aws.run(aws.processing("Work", NOTHING, RoleArn=role)).status == "Succeeded"


@pytest.mark.parametrize("when", ["create", "before", "after"])
def test_a_fault_fails_the_next_attempt_at_its_moment(aws: AwsLab, here: StandIn, when: str) -> None:
    here.add_fault("Work", "ClientError: as asked", when=when, log=["Traceback (most recent call last):", "E: no"])
    step = aws.processing("Work", "print('ran')\n" + NOTHING)
    failed = aws.run(step).steps["Work"]
    assert failed["FailureReason"] == "ClientError: as asked"
    if when == "create":
        assert failed["Metadata"] == {}
    else:
        ran = ["ran"] if when == "after" else []
        asked = ["Traceback (most recent call last):", "E: no"]
        assert lines(aws.log_of("Processing", job_of(failed))) == [ran + asked]
    assert aws.run(step).status == "Succeeded"


def test_a_retry_policy_covers_the_kind_of_a_fault(aws: AwsLab, here: StandIn) -> None:
    here.add_fault("Work", "limit", when="create", kind="SageMaker.RESOURCE_LIMIT", times=2)
    policy = {"ExceptionType": ["SageMaker.RESOURCE_LIMIT"], "IntervalSeconds": 0, "BackoffRate": 1.0, "MaxAttempts": 3}
    done = aws.run(aws.processing("Work", NOTHING, step={"RetryPolicies": [policy]}))
    assert (done.status, done.steps["Work"]["AttemptCount"]) == ("Succeeded", 3)


@pytest.mark.parametrize(
    "wrong", [{"step": "Work"}, {"step": "W", "reason": "r", "when": "never"}, {"step": "W", "reason": "r", "x": 1}]
)
def test_a_fault_that_is_none_is_refused(here: StandIn, wrong: Json) -> None:
    from stand_in.faults import Fault

    with pytest.raises(ValueError, match=r"fault has|`when` is"):
        Fault.of(wrong)


def test_answers_have_botocore_s_output_shapes(aws: AwsLab, here: StandIn) -> None:
    """What the server sends, before botocore drops what its shapes do not have."""
    aws.put("data/a.csv", "1")
    here.add_fault("Work", "AlgorithmError: x")
    done = aws.run(training(aws, TRAIN), aws.processing("Work", NOTHING))
    service = here.service("000000000000", "us-east-1")
    execution = {"PipelineExecutionArn": done.arn}
    jobs = {step: job_of(done.steps[step]) for step in done.steps}
    answers: dict[str, Any] = {
        "DescribePipeline": service.describe_pipeline(PipelineName="p"),
        "DescribePipelineExecution": service.describe_execution(execution),
        "ListPipelineExecutions": service.list_executions({"PipelineName": "p"}),
        "ListPipelineExecutionSteps": service.list_steps(execution),
        "ListPipelineParametersForExecution": service.list_parameters(execution),
        "DescribePipelineDefinitionForExecution": service.describe_definition(execution),
        "DescribeTrainingJob": service.jobs.describe("Training", jobs["Train"]),
        "DescribeProcessingJob": service.jobs.describe("Processing", jobs["Work"]),
    }
    model: ServiceModel = aws.client.meta.service_model
    faults = {
        name: list(
            _shape(
                json.loads(json.dumps(answer, default=lambda t: t.timestamp())),
                model.operation_model(name).output_shape,
                "",
                {},
            )
        )
        for name, answer in answers.items()
    }
    assert {name: [f for f in found if "timestamp" not in f] for name, found in faults.items() if found} == {}
