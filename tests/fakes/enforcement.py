"""IAM enforced: an assumed role may do what its policies say, on the resources and conditions they say it of.

Only sessions of roles are held to it; an account's own keys (accounts.py) are its administrator's. A role's session is
had by AssumeRoleWithWebIdentity, whose token is held against the role's trust policy. It is off until asked for
(`FakeAws.set_enforce`), since tests of other things assume roles that have no policies.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.iam.models import iam_backends
from moto.s3.exceptions import S3ClientError
from moto.sts.models import AssumedRole, sts_backends
from moto.utilities.utils import get_partition

from fakes.asked import Asked, Place, asked, of_s3
from fakes.policies import met
from sagegate.files import Json

if TYPE_CHECKING:
    from fakes.server import FakeAws

CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/[^/]+/([^/]+)/")
SERVICES = {"monitoring": "cloudwatch"}  # whose permissions are not called as requests are signed
WEB = "sts:AssumeRoleWithWebIdentity"


class Refused(ServiceException):
    """IAM's refusal. A class of this module, as moto looks for errors of its own modules in botocore's models."""


def session_of(headers: Any) -> tuple[AssumedRole, str, str] | None:
    """The assumed role whose credentials signed a request, its account, and the service it was signed for."""
    found = CREDENTIAL.search(headers.get("Authorization", ""))
    if not found:
        return None
    for account, partitions in list(sts_backends.items()):
        for backend in list(partitions.values()):
            for role in list(backend.assumed_roles):
                if role.access_key_id == found[1]:
                    return role, account, SERVICES.get(found[2], found[2])
    return None


def verdict(role: AssumedRole, account: str, wanted: Asked) -> str | None:
    """Why IAM refuses, in its words, or None."""
    name = role.role_arn.rpartition("/")[2]
    iam = iam_backends[account][get_partition("us-east-1")]
    documents: list[Any] = [iam.get_role_policy(name, policy)[1] for policy in iam.list_role_policies(name)]
    documents += iam.list_attached_role_policies(name)[0]
    results = [
        IAMPolicy(d).is_action_permitted(wanted.action, wanted.resource, None, wanted.context) for d in documents
    ]
    if PermissionResult.DENIED not in results and PermissionResult.PERMITTED in results:
        return None
    why = "with an explicit deny in an" if PermissionResult.DENIED in results else "because no"
    what = "identity-based policy" + (
        "" if PermissionResult.DENIED in results else f" allows the {wanted.action} action"
    )
    return (
        f"User: arn:aws:sts::{account}:assumed-role/{name}/{role.session_name} is not authorized to perform: "
        f"{wanted.action} on resource: {wanted.resource} {why} {what}"
    )


def _first(role: AssumedRole, account: str, all_of: list[Asked]) -> str | None:
    return next((why for one in all_of if (why := verdict(role, account, one))), None)


def request_of(response: BaseResponse) -> Json:
    """A request's parameters, whichever protocol it came by."""
    parsed: Any = getattr(response, "params", None)  # where moto parses them for the service
    if parsed:
        return dict(parsed.original_dict() if hasattr(parsed, "original_dict") else parsed)
    named = re.search(r"/endpoints/([^/]+)/", response.path)
    if named:
        return {"EndpointName": named[1]}
    try:
        body = json.loads(response.body or "{}")
    except (ValueError, TypeError):
        body = {}
    return body or {key: values[0] for key, values in response.querystring.items()}


def untrusted(token: str, role_arn: str) -> str | None:
    """Why a role's trust policy refuses a token, or None; the token is GitHub's, a JWT, whose signature is not checked.

    A text that is no JWT, or a role that there is not, is left to moto.
    """
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    except (IndexError, ValueError):
        return None
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    found = [role for role in iam_backends[account][role_arn.split(":")[1]].roles.values() if role.name == name]
    if not found:
        return None
    issuer = str(claims.get("iss", "")).removeprefix("https://")
    context = {f"{issuer}:{key}": value for key, value in claims.items()}
    document = found[0].assume_role_policy_document
    statements = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    for statement in statements:
        provider = str(statement["Principal"].get("Federated", "")).partition("oidc-provider/")[2]
        if statement["Action"] == WEB and provider == issuer and met(statement.get("Condition", {}), context):
            return None
    return f"Not authorized to perform {WEB}"


def install(fake_aws: FakeAws) -> Callable[[], None]:
    """Enforce where `fake_aws.enforce` is set; the function that undoes it."""
    call_action, s3_action = BaseResponse.call_action, ActionAuthenticatorMixin._authenticate_and_authorize_s3_action

    def refused(self: BaseResponse) -> str | None:
        operation = self._get_action()
        if operation == "AssumeRoleWithWebIdentity":
            given = request_of(self)
            return untrusted(given["WebIdentityToken"], given["RoleArn"])
        session = session_of(self.headers)
        if session is None or operation == "GetCallerIdentity":
            return None
        role, account, service = session
        place = Place(get_partition(self.region), self.region, account)
        return _first(role, account, asked(service, operation, request_of(self), place))

    def checked_call(self: BaseResponse) -> Any:
        said = refused(self) if fake_aws.enforce and self.service_name != "s3" else None
        if said is None:
            return call_action(self)
        error = Refused("AccessDenied", said)
        if self.headers.get("X-Amz-Target") or self.service_name == "sagemaker-runtime":
            error.code = "AccessDeniedException"
        status, headers, body = self.serialized(ActionResult(error))
        return self._transform_response(self.response_headers, (body, headers | {"status": status}))

    def checked_s3(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
        session = session_of(self.headers) if fake_aws.enforce else None
        if session is None:
            s3_action(self, bucket_name, key_name)
            return
        arn = f"arn:aws:s3:::{bucket_name or '*'}" + (f"/{key_name}" if key_name else "")
        prefix = (self.querystring.get("prefix") or [None])[0]
        said = _first(*session[:2], of_s3(self.data["Action"], arn, prefix, self.headers.get("x-amz-copy-source")))
        if said:
            raise S3ClientError("AccessDenied", said)

    BaseResponse.call_action = checked_call  # type: ignore[method-assign]
    ActionAuthenticatorMixin._authenticate_and_authorize_s3_action = checked_s3  # type: ignore[method-assign]

    def uninstall() -> None:
        BaseResponse.call_action = call_action  # type: ignore[method-assign]
        ActionAuthenticatorMixin._authenticate_and_authorize_s3_action = s3_action  # type: ignore[method-assign]

    return uninstall
