"""A harness for the local engine: it writes definitions with small scripts and runs them through the client."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagegate.files import Json
from sagegate.local.client import LocalSageMaker
from sagegate.local.storage import Store

REGION, ACCOUNT, BUCKET = "us-east-1", "000000000000", "bucket"


@dataclass
class Outcome:
    """An execution that has ended, with its steps by name."""

    arn: str
    status: str
    reason: str
    steps: dict[str, Json]


@dataclass
class Lab:
    """A project folder with its client, and helpers that write definitions."""

    root: Path
    client: LocalSageMaker
    store: Store

    def put(self, key: str, content: str | bytes) -> str:
        """Store an object and return its URI."""
        body = content.encode() if isinstance(content, str) else content
        self.store.put_object(Bucket=BUCKET, Key=key, Body=body)
        return f"s3://{BUCKET}/{key}"

    def get(self, uri: str) -> str:
        return self.store.read(uri).decode()

    def processing(self, name: str, script: str, inputs: dict[str, Any] | None = None, **more: Any) -> Json:
        """Return a Processing step that runs `script` and has the output `out`; `inputs` maps names to URIs."""
        code = self.put(f"code/{name}/main.py", script)
        step = more.pop("step", {})
        command = more.pop("arguments", [])
        parts = [f"s3://{BUCKET}", {"Get": "Execution.PipelineExecutionId"}, name, "out"]
        output = {
            "S3Uri": {"Std:Join": {"On": "/", "Values": parts}},
            "LocalPath": "/opt/ml/processing/output/out",
            "S3UploadMode": "EndOfJob",
        }
        arguments: Json = {
            "ProcessingResources": {
                "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
            },
            "AppSpecification": {
                "ImageUri": "image",
                "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/main.py"],
                **({"ContainerArguments": command} if command else {}),
            },
            "RoleArn": "arn:aws:iam::000000000000:role/x",
            "ProcessingInputs": [_input(key, uri) for key, uri in {"code": code, **(inputs or {})}.items()],
            "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "S3Output": output}]},
            **more,
        }
        return {"Name": name, "Type": "Processing", "Arguments": arguments, **step}

    def run(self, *steps: Json, parameters: list[Json] | None = None, **start: Any) -> Outcome:
        """Create the pipeline again, run it, and wait for its end."""
        return self.ended(self.begin(*steps, parameters=parameters, **start))

    def begin(self, *steps: Json, parameters: list[Json] | None = None, **start: Any) -> str:
        """Create the pipeline again, and start it; return the ARN of the execution."""
        definition = {"Version": "2020-12-01", "Metadata": {}, "Parameters": parameters or [], "Steps": list(steps)}
        role = "arn:aws:iam::000000000000:role/x"
        self.client.create_pipeline(PipelineName="p", PipelineDefinition=json.dumps(definition), RoleArn=role)
        return str(self.client.start_pipeline_execution(PipelineName="p", **start)["PipelineExecutionArn"])

    def ended(self, arn: str) -> Outcome:
        """Wait for the end of an execution."""
        assert self.client.wait(arn, 60), "the execution did not end"
        described = self.client.describe_pipeline_execution(PipelineExecutionArn=arn)
        steps = self.client.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
        reason = described.get("FailureReason", "")
        return Outcome(arn, described["PipelineExecutionStatus"], reason, {step["StepName"]: step for step in steps})

    def output(self, outcome: Outcome, step: str, name: str = "out") -> str:
        """Return the URI of a step's output from its job's description."""
        job = outcome.steps[step]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
        outputs = self.client.describe_processing_job(ProcessingJobName=job)["ProcessingOutputConfig"]["Outputs"]
        return str(next(o["S3Output"]["S3Uri"] for o in outputs if o["OutputName"] == name))


def _input(name: str, uri: Any) -> Json:
    s3 = {"S3Uri": uri, "LocalPath": f"/opt/ml/processing/input/{name}", "S3DataType": "S3Prefix"}
    return {"InputName": name, "S3Input": s3 | {"S3InputMode": "File", "S3DataDistributionType": "FullyReplicated"}}


def write(text: str, file: str = "x.txt") -> str:
    """Return a script that writes `text`, a Python expression, to a file of its output."""
    return (
        "import sys, os, json, pathlib\nbase = pathlib.Path(__file__).parents[2]\n"
        f"(base / 'output' / 'out' / {file!r}).write_text({text})\n"
    )


def make_lab(root: Path) -> Lab:
    """Return an empty client for the project in `root`."""
    store = Store(root / ".mlops" / "s3")
    return Lab(root, LocalSageMaker(root, store, REGION, ACCOUNT, lambda path: ()), store)
