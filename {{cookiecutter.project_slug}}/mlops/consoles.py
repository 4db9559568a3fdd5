"""Addresses in AWS's consoles, for people: where to look further."""

from __future__ import annotations

HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def studio(partition: str, region: str) -> str:
    """Studio's landing page: what comes after it has the domain's own address, which nothing here knows."""
    return f"{_console(partition, region)}/sagemaker/home?region={region}#/studio-landing"


def job_logs(partition: str, region: str) -> str:
    """The log groups of SageMaker's jobs in CloudWatch."""
    groups = "$3FlogGroupNameFilter$3D$252Faws$252Fsagemaker$252F"
    return f"{_console(partition, region)}/cloudwatch/home?region={region}#logsV2:log-groups{groups}"


def _console(partition: str, region: str) -> str:
    return f"https://{region}.{HOSTS.get(partition, HOSTS['aws'])}"
