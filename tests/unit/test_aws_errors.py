"""Each refusal of AWS is one line that says what, where and what to do."""

import pytest
from botocore import exceptions as botocore

from sagegate.aws_errors import denied_action, expired, explain_aws_error, passes

DENIED = (
    "User: arn:aws:sts::111122223333:assumed-role/m-github-train/x is not authorized to perform: "
    "sagemaker:UpdatePipeline on resource: arn:aws:sagemaker:eu-west-1:111122223333:pipeline/m because no "
    "identity-based policy allows the sagemaker:UpdatePipeline action"
)


def refused(code: str, message: str = "", call: str = "UpdatePipeline", status: int = 400) -> botocore.ClientError:
    """What boto3 raises for an answer of AWS's."""
    return botocore.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, call
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refused("ExpiredTokenException", "The security token included in the request is expired"), "expired: log in"),
        (refused("UnrecognizedClientException", "The security token is invalid"), "does not know these credentials"),
        (refused("AccessDeniedException", DENIED), "may not do sagemaker:UpdatePipeline"),
        (refused("403", "Forbidden", "HeadObject"), "may not do HeadObject"),
        (refused("ThrottlingException", "Rate exceeded"), "throttled UpdatePipeline"),
        (refused("NoSuchBucket", "The specified bucket does not exist", "PutObject"), "sagegate bootstrap"),
        (refused("ResourceLimitExceeded", "The account-level service limit is 0 Instances"), "Service Quotas"),
        (refused("ValidationException", "SageMaker could not assume the role arn:..."), "execution role"),
        (refused("ValidationException", "Value 'x' is wrong"), "refused UpdatePipeline: Value 'x' is wrong"),
        (botocore.NoCredentialsError(), "no AWS credentials"),
        (botocore.ProfileNotFound(profile="p"), "cannot be read"),
        (botocore.UnauthorizedSSOTokenError(), "single sign-on session has ended"),
        (botocore.EndpointConnectionError(endpoint_url="https://x"), "does not answer"),
        (botocore.ReadTimeoutError(endpoint_url="https://x"), "does not answer"),
        (botocore.ParamValidationError(report="Missing required\nparameter"), "not one that AWS takes"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value[:20],
)
def test_a_refusal_is_one_line_with_a_remedy(error: Exception, words: str) -> None:
    said = explain_aws_error(error)
    assert said is not None and words in str(said) and "\n" not in str(said) and said.exit_code == 1


def test_other_errors_are_not_hidden() -> None:
    assert explain_aws_error(ValueError("a fault of our own")) is None


def test_what_may_be_tried_again_while_following() -> None:
    assert passes(refused("ThrottlingException")) and passes(refused("InternalFailure", status=500))
    assert passes(botocore.ConnectionClosedError(endpoint_url="https://x"))
    assert not passes(refused("AccessDeniedException")) and not passes(ValueError())
    assert expired(refused("ExpiredToken")) and not expired(refused("AccessDenied"))


def test_the_action_is_read_from_the_message() -> None:
    assert denied_action(DENIED) == "sagemaker:UpdatePipeline" and denied_action("Access Denied") is None
