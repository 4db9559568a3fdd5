"""Lambda, Model, Transform and Tuning steps, on moto's Lambda, SageMaker and logs."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from local_lab import ACCOUNT, BUCKET, REGION, write
from mlops.files import archive
from test_jobs import training

from stand_in.aws_lab import AwsLab, client, job_of
from stand_in.reasons import of_job
from stand_in.server import StandIn

Json = dict[str, Any]
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:project-greet"
HANDLER = """
import os
import boto3

def handler(event, context):
    bucket = boto3.client("s3").list_buckets()["Buckets"][0]["Name"]
    return {"said": f"{event['word']} {bucket} {os.environ['AWS_LAMBDA_FUNCTION_NAME']}"}
"""


def lambda_step() -> Json:
    outputs = [{"OutputName": "said", "OutputType": "String"}]
    return {
        "Name": "Call",
        "Type": "Lambda",
        "FunctionArn": FUNCTION,
        "Arguments": {"word": "hi"},
        "OutputParameters": outputs,
    }


def test_a_lambda_step_runs_the_code_that_was_deployed_with_its_account_s_credentials(
    aws: AwsLab, here: StandIn
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("handler.py", HANDLER)
    here.prepare("project", ACCOUNT, REGION)
    aws.store.delete_bucket(Bucket=f"project-{ACCOUNT}-{REGION}")
    client("lambda", here.environment(ACCOUNT, REGION)).create_function(
        FunctionName="project-greet",
        Runtime="python3.12",
        Role=f"arn:aws:iam::{ACCOUNT}:role/project-notify",
        Handler="handler.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    done = aws.run(lambda_step())
    assert done.status == "Succeeded", [step.get("FailureReason") for step in done.steps.values()]
    assert done.steps["Call"]["Metadata"]["Lambda"] == {
        "Arn": FUNCTION,
        "OutputParameters": [{"Name": "said", "Value": f"hi {BUCKET} project-greet"}],
    }


def test_a_lambda_step_without_its_function_fails(aws: AwsLab) -> None:
    assert "Function not found" in aws.run(lambda_step()).steps["Call"]["FailureReason"]


INFERENCE = """
def model_fn(folder): return open(folder + "/factor").read()
def input_fn(body, content_type): return [float(x) for x in body.decode().split()]
def predict_fn(rows, model): return [x * float(model) for x in rows]
def output_fn(rows, accept): return "\\n".join(map(str, rows)), accept
"""


def test_a_model_and_a_transform_step_work_on_s3(aws: AwsLab) -> None:
    aws.put("model.tar.gz", archive({"factor": b"2", "code/inference.py": INFERENCE.encode()}))
    aws.put("rows/a.csv", "1\n2\n")
    container = {"Image": "i", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    model = {"Name": "Model", "Type": "Model", "Arguments": {"PrimaryContainer": container}}
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows"}}
    arguments = {
        "ModelName": {"Get": "Steps.Model.ModelName"},
        "TransformInput": {"DataSource": source, "ContentType": "text/csv"},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/predicted", "Accept": "text/csv"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    done = aws.run(model, {"Name": "Batch", "Type": "Transform", "Arguments": arguments})
    assert done.status == "Succeeded", [step.get("FailureReason") for step in done.steps.values()]
    assert aws.get(f"s3://{BUCKET}/predicted/a.csv.out") == "2.0\n4.0"
    name = done.steps["Model"]["Metadata"]["Model"]["Arn"].rpartition("/")[2]
    assert aws.client.describe_model(ModelName=name)["PrimaryContainer"]["ModelDataUrl"] == container["ModelDataUrl"]
    job = job_of(done.steps["Batch"])
    assert aws.client.describe_transform_job(TransformJobName=job)["TransformJobStatus"] == "Completed"
    assert list(aws.log_of("Transform", job).values()) == [["a.csv: 1 requests"]]


def test_a_tuning_step_s_jobs_have_their_own_logs(aws: AwsLab) -> None:
    aws.put("data/a.csv", "1")
    script = "import sys\nprint('score:', sys.argv[sys.argv.index('--depth') + 1])\n"
    single = training(aws, script)["Arguments"]
    single["StaticHyperParameters"] = single.pop("HyperParameters")
    single["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "score", "Regex": "score: (.*)"}]
    config = {
        "Strategy": "Grid",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2},
        "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "depth", "Values": ["1", "3"]}]},
    }
    arguments = {"HyperParameterTuningJobConfig": config, "TrainingJobDefinition": single}
    done = aws.run({"Name": "Tune", "Type": "Tuning", "Arguments": arguments})
    assert done.status == "Succeeded", [step.get("FailureReason") for step in done.steps.values()]
    name = done.steps["Tune"]["Metadata"]["TuningJob"]["Arn"].rpartition("/")[2]
    tuned = aws.client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    best = tuned["BestTrainingJob"]
    assert best["TunedHyperParameters"] == {"depth": "3"}
    assert list(aws.log_of("Training", best["TrainingJobName"]).values()) == [["score: 3"]]


@pytest.mark.parametrize(
    ("kind", "local", "said"),
    [
        ("Processing", "no luck (exit code 1)", "AlgorithmError: See job logs for more information"),
        ("Transform", "a.csv, request 1: no (exit code 1)", "ClientError: See job logs for more information"),
        ("HyperParameterTuning", "no training job succeeded: x (exit code 1)", "All training jobs failed. Please"),
        (
            "Processing",
            "ended by signal 9 (exit code -9 on algo-2)",
            "ClientError: Please use an instance type with more",
        ),
        ("Training", "ended by signal 15 (exit code -15)", "AlgorithmError: ExecuteUserScriptError:\nExitCode 143"),
        ("Training", "the job ran longer than its MaxRuntimeInSeconds (9 s)", "ClientError: the job ran longer"),
    ],
)
def test_each_kind_of_job_fails_in_its_own_words(kind: str, local: str, said: str) -> None:
    assert of_job(kind, local).startswith(said)


def test_a_definition_may_come_from_s3(aws: AwsLab) -> None:
    definition = {"Version": "2020-12-01", "Steps": [aws.processing("Work", write("''"))]}
    aws.put("definition.json", json.dumps(definition))
    aws.client.create_pipeline(
        PipelineName="p",
        PipelineDefinitionS3Location={"Bucket": BUCKET, "ObjectKey": "definition.json"},
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/x",
        ClientRequestToken="t" * 32,
    )
    assert aws.ended(aws.start()).status == "Succeeded"
