"""What AWS refuses, said in one line: what, where, what to do. For calls that a verb makes; for jobs see explain.py.

Codes are those of "Common errors" in each service's API reference, and botocore's own for what never reaches AWS.
"""

from __future__ import annotations

import re

from botocore import exceptions as botocore

from sagegate.errors import SagegateError

LOGIN = "log in again (for example `aws sso login`) and repeat the command"
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
INVALID = {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
}
CONNECTION = (
    botocore.ConnectionError,
    botocore.HTTPClientError,
    ConnectionError,
)


def explain_aws_error(error: BaseException) -> SagegateError | None:
    """The error for the reader, or None if it is not AWS's."""
    if isinstance(error, botocore.ClientError):
        return SagegateError(_refused(error))
    # The order counts: some of these are subclasses of connection errors.
    if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError):
        return SagegateError(f"there are no AWS credentials here: {LOGIN}, or set AWS_PROFILE")
    if isinstance(
        error, botocore.TokenRetrievalError | botocore.UnauthorizedSSOTokenError | botocore.SSOTokenLoadError
    ):
        return SagegateError(f"the AWS single sign-on session has ended: {LOGIN}")
    if isinstance(error, botocore.CredentialRetrievalError | botocore.ProfileNotFound):
        return SagegateError(f"the AWS credentials cannot be read ({error}): correct ~/.aws/config, or set AWS_PROFILE")
    if isinstance(error, botocore.ParamValidationError):
        return SagegateError(f"the request is not one that AWS takes: {' '.join(str(error).split())}")
    if isinstance(error, CONNECTION):
        said = " ".join(str(error).split())
        return SagegateError(f"AWS does not answer ({said}): check the network, the proxy and `region`, then repeat")
    if isinstance(error, botocore.BotoCoreError):
        return SagegateError(f"boto3: {' '.join(str(error).split())}")
    return None


def code_of(error: BaseException) -> str:
    """AWS's code of an error, or the empty string."""
    if not isinstance(error, botocore.ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def passes(error: BaseException) -> bool:
    """Whether the same call may succeed later: throttling, a lost connection, an error inside AWS."""
    if isinstance(error, botocore.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code_of(error) in THROTTLED or status >= 500
    return isinstance(error, CONNECTION) and not isinstance(error, botocore.ParamValidationError)


def expired(error: BaseException) -> bool:
    """Whether the credentials were good and are not any more."""
    return code_of(error) in EXPIRED or isinstance(
        error, botocore.TokenRetrievalError | botocore.UnauthorizedSSOTokenError
    )


def _refused(error: botocore.ClientError) -> str:
    code, call = code_of(error), error.operation_name
    said = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    if code in EXPIRED:
        return f"the AWS credentials have expired: {LOGIN}"
    if code in INVALID:
        return f"AWS does not know these credentials ({code}): {LOGIN}, and check AWS_PROFILE"
    if code in DENIED or (code == "403" and call == "HeadObject"):
        action = denied_action(said) or call
        return f"you may not do {action} ({said or code}): ask for this permission, or use the role that has it"
    if code in THROTTLED:
        return f"AWS throttled {call} ten times ({said}): wait a minute and repeat the command; it goes on where it was"
    if code == "NoSuchBucket":
        bucket = error.response["Error"].get("BucketName", "")
        return f"bucket {bucket} does not exist: `sagegate bootstrap ENV` makes the project's own; of another, check the name"
    if code == "ResourceLimitExceeded":
        return (
            f"a quota of this account is reached ({said}): ask for more in Service Quotas, or use another instance type"
        )
    if code == "ValidationException" and "assume" in said.lower():
        return f"SageMaker cannot use the execution role ({said}): `sagegate bootstrap` makes it"
    return f"AWS refused {call}: {said or code} ({code})"


def denied_action(said: str) -> str | None:
    """The action that a message of IAM's names, such as `s3:PutObject`."""
    found = re.search(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z*]+)", said)
    return found[1] if found else None
