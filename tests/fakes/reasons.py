"""What SageMaker says when a step fails, made from what the local engine says. Pure.

Sources: the failure reasons in "Troubleshoot errors" for training and processing in the SageMaker developer guide, and
the texts that the service's responses carry. A job's own words are in its log; only a training job that wrote
`/opt/ml/output/failure` is quoted, as SageMaker does.
"""

from __future__ import annotations

import re

STEPS_FAILED = "Step failure: One or multiple steps failed."
EXIT = re.compile(r"(?s)(.*) \(exit code (-?\d+)(?: on \S+)?\)")
MEMORY = (
    "ClientError: Please use an instance type with more memory, "
    "or reduce the size of job data processed on an instance."
)


def of_job(kind: str, local: str, program: str = "") -> str:
    """A job's FailureReason from the local one; `program` is the command line of a training job."""
    if kind == "HyperParameterTuning":
        return "All training jobs failed. Please take a look at the training jobs failures to get more details."
    match = EXIT.fullmatch(local)
    if match is None:
        return local if local.startswith("ClientError") else f"ClientError: {local}"
    said, code = match[1], int(match[2])
    if code == -9:
        return MEMORY
    shown = 128 - code if code < 0 else code
    if kind == "Processing":
        return "AlgorithmError: See job logs for more information"
    if kind == "Transform":
        return "ClientError: See job logs for more information"
    script = f'ExecuteUserScriptError:\nExitCode {shown}\nErrorMessage "{said}"\nCommand "{program}"'
    return f"AlgorithmError: {script}, exit code: {shown}"


def refused(kind: str, details: str) -> str:
    """Why a step could not create its job."""
    return f"ClientError: Failed to invoke sagemaker:Create{kind}Job. Error Details: {details}"


def no_objects(uri: str, region: str, role: str, bucket: str, exists: bool) -> str:
    """An input that is not there."""
    text = (
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists in '
        f'the selected region ({region}), that objects exist under that S3 prefix, and that the role "{role}" has '
        f'"s3:ListBucket" permissions on bucket "{bucket}".'
    )
    return text if exists else f"{text} Error message from S3: The specified bucket does not exist"


def no_bucket(uri: str) -> str:
    """An output that has nowhere to go."""
    return f"ClientError: Artifact upload failed: {uri}: NoSuchBucket: The specified bucket does not exist"


def role_unusable(role: str) -> str:
    """A role that is missing or that SageMaker may not assume."""
    return (
        f"Could not assume role {role}. Please ensure that the role exists and allows principal "
        "'sagemaker.amazonaws.com' to assume the role."
    )
