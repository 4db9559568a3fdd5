"""Pipelines that truly run, through boto3 over HTTP."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from local_lab import BUCKET, write

from stand_in.aws_lab import AwsLab

LOOK = "import pathlib, sys; base = pathlib.Path(__file__).parents[1]\n"


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_job_reads_what_boto3_uploaded_and_boto3_reads_what_it_wrote(aws: AwsLab) -> None:
    aws.put("in/a.txt", "7")
    script = LOOK + write("str(int((base.parent / 'input/data/a.txt').read_text()) * 6)").replace(
        "parents[2]", "parents[2]"
    )
    script = script.replace("base.parent / ", "base / ")
    done = aws.run(aws.processing("Work", script, {"data": f"s3://{BUCKET}/in"}))
    assert done.status == "Succeeded", (done.reason, done.steps)
    assert aws.get(aws.output(done, "Work") + "/x.txt") == "42"
