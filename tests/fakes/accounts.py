"""Accounts: access keys that name one, service quotas, and the resources that a platform stack would have created."""

from __future__ import annotations

import json
import re

from moto.iam import models as iam_models
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, s3_backends
from moto.servicequotas.responses import ServiceQuotasResponse
from moto.utilities.utils import get_partition

from fakes.remote import DEFAULT_ACCOUNT, DEFAULT_REGION, access_key

SERVICE_OF_ROLE = {"execution": "sagemaker", "endpoint": "sagemaker"}
INSTANCE_TYPES = ("ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge")
USES = ("processing job", "training job", "spot training job", "transform job", "endpoint")
QUOTAS = sorted(f"{instance} for {use} usage" for instance in INSTANCE_TYPES for use in USES)
QUOTAS_PER_PAGE = 5
KEY = re.compile(access_key(r"(\d{12})"))


def credentials(url: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> dict[str, str]:
    """Return the variables with which boto3 talks to the fake at `url` as an account's administrator."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": access_key(account_id),
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def install() -> None:
    """Patch moto."""
    original = iam_models.get_account_id_from

    def get_account_id_from(access_key: str) -> str:
        match = KEY.fullmatch(access_key)
        return match[1] if match else original(access_key)

    iam_models.get_account_id_from = get_account_id_from
    ServiceQuotasResponse.list_service_quotas = list_service_quotas  # type: ignore[attr-defined]
    # moto denies a request if a Deny statement's condition does not hold. The fake judges no policies at all.
    FakeBucket.get_permission = lambda *_: PermissionResult.NEUTRAL  # type: ignore[method-assign]


def list_service_quotas(self: ServiceQuotasResponse) -> str:
    """Answer ListServiceQuotas: an account may have two instances of each type for each use."""
    request = json.loads(self.body)
    names = QUOTAS if request["ServiceCode"] == "sagemaker" else []
    start = int(request.get("NextToken", 0))
    end = start + QUOTAS_PER_PAGE
    page = [{"QuotaName": name, "ServiceCode": "sagemaker", "Value": 2.0} for name in names[start:end]]
    return json.dumps({"Quotas": page} | ({"NextToken": str(end)} if end < len(names) else {}))


def prepare(project: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> str:
    """Create the bucket and roles of a project's platform, and return the bucket's name."""
    partition = get_partition(region)
    bucket = f"{project}-{account_id}-{region}"
    s3, iam = s3_backends[account_id][partition], iam_models.iam_backends[account_id][partition]
    if bucket not in s3.buckets:
        s3.create_bucket(bucket, region)
    existing = {role.name for role in iam.roles.values()}
    for purpose, service in SERVICE_OF_ROLE.items():
        if f"{project}-{purpose}" not in existing:
            principal = {"Service": f"{service}.amazonaws.com"}
            statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
            iam.create_role(
                role_name=f"{project}-{purpose}",
                assume_role_policy_document=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
                path="/",
                permissions_boundary=None,
                description="",
                tags=[],
                max_session_duration="3600",
            )
    return bucket
