"""The proxy: what it does to calls, and that a client with retries ends right and exactly once behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.exceptions import ConnectionError as BotoConnectionError
from local_lab import BUCKET, write

from stand_in.aws_lab import AwsLab, client, token
from stand_in.proxy import Proxy, Weather
from stand_in.server import StandIn

Open = Callable[..., Proxy]


@pytest.fixture
def proxy(here: StandIn) -> Iterator[Open]:
    """Open proxies before the stand-in: `proxy(throttle=0.2, seed=1)`."""
    opened: list[Proxy] = []

    def start(seed: int = 0, **weather: float) -> Proxy:
        opened.append(Proxy(here.url, Weather(**weather), seed))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_throttling_looks_like_each_service_s_own(here: StandIn, aws: AwsLab, proxy: Open) -> None:
    always = proxy(throttle=1.0)
    env = here.environment("000000000000")
    with pytest.raises(ClientError) as error:
        client("sagemaker", env, always.url).list_pipelines()
    assert error.value.response["Error"]["Code"] == "ThrottlingException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(ClientError) as error:
        client("s3", env, always.url).list_objects_v2(Bucket=BUCKET)
    assert error.value.response["Error"]["Code"] == "SlowDown"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    with pytest.raises(ClientError) as error:
        client("sts", env, always.url).get_caller_identity()
    assert error.value.response["Error"]["Code"] == "Throttling"
    assert always.counts == Counter(throttle=3)


@pytest.mark.parametrize(("moment", "done"), [("reset_before", False), ("reset_after", True)])
def test_a_reset_comes_before_or_after_the_backend_did_it(
    here: StandIn, aws: AwsLab, proxy: Open, moment: str, done: bool
) -> None:
    bad = proxy(**{moment: 1.0})
    lost = client("s3", here.environment("000000000000"), bad.url)
    with pytest.raises((BotoConnectionError, ConnectionClosedError)):
        lost.put_object(Bucket=BUCKET, Key="key", Body=b"x" * 100_000)
    assert ("Contents" in aws.store.list_objects_v2(Bucket=BUCKET)) is done
    assert bad.counts == Counter({moment: 1})


def test_the_same_seed_gives_the_same_weather(proxy: Open) -> None:
    fates = [
        [p.fate("x") for _ in range(200)]
        for p in (proxy(3, throttle=0.2), proxy(3, throttle=0.2), proxy(4, throttle=0.2))
    ]
    assert fates[0] == fates[1] != fates[2]
    assert 20 <= fates[0].count("throttle") <= 60


def test_with_retries_everything_ends_right_and_exactly_once(here: StandIn, aws: AwsLab, proxy: Open) -> None:
    bad = proxy(3, throttle=0.1, reset_before=0.1, reset_after=0.1)
    env = here.environment("000000000000")
    aws.define(aws.processing("Work", write("''")))
    sagemaker, s3 = client("sagemaker", env, bad.url, attempts=10), client("s3", env, bad.url, attempts=10)
    tokens = [token() for _ in range(6)]
    arns = [
        sagemaker.start_pipeline_execution(PipelineName="p", ClientRequestToken=t)["PipelineExecutionArn"]
        for t in tokens
    ]
    for number in range(6):
        s3.put_object(Bucket=BUCKET, Key=f"many/{number}", Body=str(number).encode() * 1000)
    assert len(set(arns)) == len(tokens)
    assert all(aws.ended(arn).status == "Succeeded" for arn in arns)
    found = aws.client.get_paginator("list_pipeline_executions").paginate(PipelineName="p")
    assert len([s for page in found for s in page["PipelineExecutionSummaries"]]) == len(tokens)
    assert s3.get_object(Bucket=BUCKET, Key="many/3")["Body"].read() == b"3" * 1000
    assert {"throttle", "reset_before", "reset_after", "pass"} == set(bad.counts)
    assert bad.calls["StartPipelineExecution", "reset_after"] >= 1  # what a token is for
