"""Errors from AWS become one line that says what happened, where, and what to do."""

from types import SimpleNamespace
from typing import cast

import boto3
import pytest
from botocore import exceptions as botocore
from botocore.stub import Stubber

from sagegate.aws_errors import denied_action, explain_aws_error, is_expired, is_temporary
from sagegate.errors import SagegateError
from sagegate.session import Session, read_object

DENIED = (
    "User: arn:aws:sts::111122223333:assumed-role/m-github-train/x is not authorized to perform: "
    "sagemaker:UpdatePipeline on resource: arn:aws:sagemaker:eu-west-1:111122223333:pipeline/m because no "
    "identity-based policy allows the sagemaker:UpdatePipeline action"
)


def client_error(code: str, message: str = "", call: str = "UpdatePipeline", status: int = 400) -> botocore.ClientError:
    """Return the exception that boto3 raises for an error response."""
    return botocore.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, call
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            client_error("ExpiredTokenException", "The security token included in the request is expired"),
            "expired: log in",
        ),
        (
            client_error("UnrecognizedClientException", "The security token is invalid"),
            "does not know these credentials",
        ),
        (client_error("AccessDeniedException", DENIED), "may not do sagemaker:UpdatePipeline"),
        (client_error("403", "Forbidden", "HeadObject"), "may not do HeadObject"),
        (client_error("ThrottlingException", "Rate exceeded"), "throttled UpdatePipeline"),
        (client_error("NoSuchBucket", "The specified bucket does not exist", "PutObject"), "sagegate bootstrap"),
        (client_error("ResourceLimitExceeded", "The account-level service limit is 0 Instances"), "Service Quotas"),
        (client_error("ValidationException", "SageMaker could not assume the role arn:..."), "execution role"),
        (client_error("ValidationException", "Value 'x' is wrong"), "rejected UpdatePipeline: Value 'x' is wrong"),
        (botocore.NoCredentialsError(), "no AWS credentials"),
        (botocore.ProfileNotFound(profile="p"), "cannot be read"),
        (botocore.UnauthorizedSSOTokenError(), "single sign-on session has ended"),
        (botocore.EndpointConnectionError(endpoint_url="https://x"), "does not answer"),
        (botocore.ReadTimeoutError(endpoint_url="https://x"), "does not answer"),
        (botocore.ParamValidationError(report="Missing required\nparameter"), "boto3 rejects the request"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value[:20],
)
def test_an_error_is_one_line_with_a_remedy(error: Exception, words: str) -> None:
    explained = explain_aws_error(error)
    assert explained is not None and words in str(explained)
    assert "\n" not in str(explained) and explained.exit_code == 1


def test_other_errors_are_not_hidden() -> None:
    assert explain_aws_error(ValueError("a bug of our own")) is None


def test_temporary_and_expired_errors_are_told_apart() -> None:
    assert is_temporary(client_error("ThrottlingException")) and is_temporary(
        client_error("InternalFailure", status=500)
    )
    assert is_temporary(botocore.ConnectionClosedError(endpoint_url="https://x"))
    assert not is_temporary(client_error("AccessDeniedException")) and not is_temporary(ValueError())
    assert is_expired(client_error("ExpiredToken")) and not is_expired(client_error("AccessDenied"))


def test_the_action_is_read_from_the_message() -> None:
    assert denied_action(DENIED) == "sagemaker:UpdatePipeline" and denied_action("Access Denied") is None


def test_an_object_that_may_be_missing_or_unreadable() -> None:
    """S3 answers 403, not 404, to whoever may not list the bucket, such as another account."""
    s3 = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    session = cast(Session, SimpleNamespace(s3=s3))
    with Stubber(s3) as stub:
        stub.add_client_error("get_object", "AccessDenied", "Access Denied", 403)
        with pytest.raises(SagegateError) as raised:
            read_object(session, "s3://m-111122223333-eu-west-1/m/executions/x/model.tar.gz")
        stub.add_client_error("get_object", "NoSuchKey", "The specified key does not exist.", 404)
        assert read_object(session, "s3://m-111122223333-eu-west-1/m/other") is None
    said = str(raised.value)
    assert said.startswith("s3://m-111122223333-eu-west-1/m/executions/x/model.tar.gz is missing or not readable")
    assert "run the pipeline again if it is missing" in said and "`sagegate bootstrap dev`" in said
    assert "\n" not in said
