"""What the tests of the deployment half share: a server, clients, tiny models, a client that never rests."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from fakes.server import FakeAws

REGION, ACCOUNT, BUCKET = "eu-central-1", "123456789012", "models"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/endpoint"
CODE = """
import time
def model_fn(folder): {load}
def input_fn(body, kind): {read}
def predict_fn(body, model): {predict}
def output_fn(prediction, accept): return {name!r} + ":" + prediction, "text/csv"
"""


class Lab:
    """boto3 clients for a fake that has been emptied."""

    def __init__(self, fake_aws: FakeAws) -> None:
        fake_aws.reset()
        self.url = fake_aws.url
        self.sagemaker, self.runtime = self.client("sagemaker"), self.client("sagemaker-runtime")
        self.s3, self.cloudwatch, self.formation = (self.client(n) for n in ("s3", "cloudwatch", "cloudformation"))
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def client(self, service: str) -> Any:
        """A boto3 client; it does not retry, so that every failed request is seen."""
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=20)
        key = f"STANDIN0{ACCOUNT}"
        return boto3.client(
            service, REGION, endpoint_url=self.url, aws_access_key_id=key, aws_secret_access_key="key", config=config
        )

    def artifact(
        self, name: str, predict: str = "return body.decode()", load: str = "return 1", read: str = "return body"
    ) -> str:
        """The address of an artifact whose model answers NAME:BODY unless the functions do otherwise."""
        content = CODE.format(name=name, predict=predict, load=load, read=read).encode()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            entry = tarfile.TarInfo("code/inference.py")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        self.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=packed.getvalue())
        return f"s3://{BUCKET}/{name}/model.tar.gz"

    def config(self, name: str, artifact: str, variant: dict[str, Any] | None = None, **more: Any) -> str:
        """A model and an endpoint configuration, both called `name`."""
        container = {"Image": "image", "ModelDataUrl": artifact}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        kind = variant or {"InstanceType": "ml.m7i.large", "InitialInstanceCount": 2}
        variants = [{"VariantName": "AllTraffic", "ModelName": name, **kind}]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **more)
        return name

    def endpoint(self, name: str, config: str) -> None:
        """An endpoint that serves."""
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        assert self.settled(name)["EndpointStatus"] == "InService"

    def settled(self, name: str) -> dict[str, Any]:
        """The endpoint's description, once nothing moves any more."""
        while (found := self.sagemaker.describe_endpoint(EndpointName=name))["EndpointStatus"] not in (
            "InService",
            "Failed",
        ):
            time.sleep(0.02)
        return dict(found)

    def ask(self, endpoint: str, body: str = "1,2") -> str:
        """The endpoint's answer."""
        answer = self.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, ContentType="text/csv")
        return str(answer["Body"].read().decode())

    def alarm(self, name: str, endpoint: str, metric: str = "Invocation5XXErrors", **more: Any) -> None:
        """An alarm that rings at the endpoint's first error in a minute."""
        dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "AllTraffic"}]
        rule: dict[str, Any] = {
            "Statistic": "Sum", "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "Period": 60, "EvaluationPeriods": 1, "TreatMissingData": "notBreaching",
        } | more  # fmt: skip
        if "ExtendedStatistic" in more:
            del rule["Statistic"]
        self.cloudwatch.put_metric_alarm(
            AlarmName=name, Namespace="AWS/SageMaker", MetricName=metric, Dimensions=dimensions, **rule
        )

    def state(self, alarm: str) -> str:
        """The alarm's state."""
        return str(self.cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0]["StateValue"])

    @contextmanager
    def hammer(self, endpoint: str) -> Iterator[Counter[str]]:
        """Ask without rest from three threads; counts who answered, and errors by their code."""
        answers: Counter[str] = Counter()
        end = threading.Event()

        def ask() -> None:
            runtime = self.client("sagemaker-runtime")
            while not end.is_set():
                try:
                    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body="1", ContentType="text/csv")
                    answers[answer["Body"].read().decode().partition(":")[0]] += 1
                except ClientError as error:
                    answers[error.response["Error"]["Code"]] += 1

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            end.set()
            for thread in threads:
                thread.join()


def until(check: Any, seconds: float = 20) -> None:
    """Wait until `check` is true; an AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def blue_green(kind: str = "ALL_AT_ONCE", wait: int = 60, size: int = 0, **more: Any) -> dict[str, Any]:
    """A DeploymentConfig."""
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": wait}
    if size:
        key = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}[kind]
        routing[key] = {"Type": "CAPACITY_PERCENT", "Value": size}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}} | more
