"""One-line explanations of errors from calls to AWS. Failed jobs are explained in sagegate/explain.

Source: "Common errors" in each service's API reference; botocore's exceptions for requests that never reach AWS.
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
CONNECTION = (botocore.ConnectionError, botocore.HTTPClientError, botocore.IncompleteReadError, ConnectionError)


def explain_aws_error(error: BaseException) -> SagegateError | None:
    """Return an error that says what to do, or None if `error` does not come from AWS or boto3."""
    if isinstance(error, botocore.ClientError):
        return SagegateError(_explain_response(error))
    if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError):
        return SagegateError(f"there are no AWS credentials here: {LOGIN}, or set AWS_PROFILE")
    if isinstance(
        error, botocore.TokenRetrievalError | botocore.UnauthorizedSSOTokenError | botocore.SSOTokenLoadError
    ):
        return SagegateError(f"the AWS single sign-on session has ended: {LOGIN}")
    if isinstance(error, botocore.CredentialRetrievalError | botocore.ProfileNotFound):
        return SagegateError(f"the AWS credentials cannot be read ({error}): correct ~/.aws/config, or set AWS_PROFILE")
    if isinstance(error, botocore.ParamValidationError):
        return SagegateError(f"boto3 rejects the request: {' '.join(str(error).split())}")
    if isinstance(error, CONNECTION):
        details = " ".join(str(error).split())
        return SagegateError(f"AWS does not answer ({details}): check the network, the proxy and `region`, then repeat")
    if isinstance(error, botocore.BotoCoreError):
        return SagegateError(f"boto3: {' '.join(str(error).split())}")
    return None


def error_code(error: BaseException) -> str:
    """Return the code of an error that AWS answered with, or the empty string."""
    if not isinstance(error, botocore.ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_temporary(error: BaseException) -> bool:
    """Return True if the same call may succeed later: throttling, a lost connection, an error inside AWS."""
    if isinstance(error, botocore.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error_code(error) in THROTTLED or status >= 500
    return isinstance(error, CONNECTION)


def is_expired(error: BaseException) -> bool:
    """Return True if the credentials have expired."""
    ended = botocore.TokenRetrievalError | botocore.UnauthorizedSSOTokenError
    return error_code(error) in EXPIRED or isinstance(error, ended)


def _explain_response(error: botocore.ClientError) -> str:
    code, call = error_code(error), error.operation_name
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    if code in EXPIRED:
        return f"the AWS credentials have expired: {LOGIN}"
    if code in INVALID:
        return f"AWS does not know these credentials ({code}): {LOGIN}, and check AWS_PROFILE"
    if code in DENIED or (code == "403" and call == "HeadObject"):
        action = denied_action(message) or call
        return f"you may not do {action} ({message or code}): ask for this permission, or use the role that has it"
    if code in THROTTLED:
        return f"AWS throttled {call} ten times ({message}): wait a minute and repeat the command, which continues"
    if code == "NoSuchBucket":
        bucket = error.response["Error"].get("BucketName", "")
        return f"bucket {bucket} does not exist: `sagegate bootstrap ENV` creates the project's own"
    if code == "ResourceLimitExceeded":
        return f"a quota of this account is reached ({message}): raise it in Service Quotas, or use another type"
    if code == "ValidationException" and "assume" in message.lower():
        return f"SageMaker cannot use the execution role ({message}): `sagegate bootstrap ENV` creates it"
    return f"AWS rejected {call}: {message or code} ({code})"


def denied_action(message: str) -> str | None:
    """Return the action that an access-denied message names, such as `s3:PutObject`."""
    found = re.search(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z*]+)", message)
    return found[1] if found else None
