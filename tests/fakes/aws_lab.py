"""A harness: definitions of little scripts, run through boto3 over HTTP in the fake."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from local_lab import ACCOUNT, BUCKET, Lab, Outcome

from sagegate.files import Json

ROLE = f"arn:aws:iam::{ACCOUNT}:role/x"
FINAL = ("Succeeded", "Failed", "Stopped")
SECONDS = 60.0


def client(service: str, environment: dict[str, str], url: str | None = None, attempts: int = 1) -> Any:
    """A boto3 client of a fake; by default one that does not hide an error by trying again."""
    return boto3.client(
        service,
        endpoint_url=url or environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    )


class AwsLab(Lab):
    """As the local engine's lab, through boto3."""

    client: Any
    store: Any

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(Path(), client("sagemaker", environment), client("s3", environment))
        self.logs = client("logs", environment)
        self.store.create_bucket(Bucket=BUCKET)

    def get(self, uri: str) -> str:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return str(self.store.get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    def define(self, *steps: Json, parameters: list[Json] | None = None, name: str = "p") -> None:
        """Create or update the pipeline of these steps."""
        definition = {"Version": "2020-12-01", "Metadata": {}, "Parameters": parameters or [], "Steps": list(steps)}
        request = {"PipelineName": name, "PipelineDefinition": json.dumps(definition), "RoleArn": ROLE}
        if name in self.made:
            self.client.update_pipeline(**request)
        else:
            self.client.create_pipeline(**request, ClientRequestToken=token())
            self.made.append(name)

    def start(self, **start: Any) -> str:
        """Start the pipeline; the execution's ARN."""
        request = {"PipelineName": "p", "ClientRequestToken": token(), **start}
        return str(self.client.start_pipeline_execution(**request)["PipelineExecutionArn"])

    def run(self, *steps: Json, parameters: list[Json] | None = None, **start: Any) -> Outcome:
        self.define(*steps, parameters=parameters)
        return self.ended(self.start(**start))

    def ended(self, arn: str) -> Outcome:
        described = self.until(arn, lambda execution: execution["PipelineExecutionStatus"] in FINAL)
        reason = described.get("FailureReason", "")
        return Outcome(arn, described["PipelineExecutionStatus"], reason, self.steps(arn))

    def until(self, arn: str, holds: Any) -> Json:
        """Ask for the execution until something holds for it; its description."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            described: Json = self.client.describe_pipeline_execution(PipelineExecutionArn=arn)
            if holds(described):
                return described
            time.sleep(0.02)
        raise AssertionError(f"it did not come about in {SECONDS} s: {described}")

    def steps(self, arn: str) -> dict[str, Json]:
        """The steps of an execution by name, from all pages."""
        pages = self.client.get_paginator("list_pipeline_execution_steps").paginate(
            PipelineExecutionArn=arn, SortOrder="Ascending"
        )
        return {step["StepName"]: step for page in pages for step in page["PipelineExecutionSteps"]}

    def log_of(self, kind: str, job: str) -> dict[str, list[str]]:
        """The lines of each log stream of a job."""
        group = f"/aws/sagemaker/{kind}Jobs"
        streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
        names = [stream["logStreamName"] for stream in streams]
        events = {n: self.logs.get_log_events(logGroupName=group, logStreamName=n, startFromHead=True) for n in names}
        return {name: [event["message"] for event in answer["events"]] for name, answer in events.items()}


def token() -> str:
    """A fresh client request token."""
    return secrets.token_hex(20)


def job_of(step: Json) -> str:
    """The name of a step's job."""
    (metadata,) = step["Metadata"].values()
    return str(metadata["Arn"].rpartition("/")[2])
