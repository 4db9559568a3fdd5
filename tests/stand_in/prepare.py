"""What a project's account has before its first run: what its platform stack would have made."""

from __future__ import annotations

import json

from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.utilities.utils import get_partition

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def project(name: str, account_id: str, region: str) -> str:
    """Make the bucket and the execution and endpoint roles, where they are missing; the bucket's name."""
    partition = get_partition(region)
    bucket = f"{name}-{account_id}-{region}"
    buckets = s3_backends[account_id][partition]
    if bucket not in buckets.buckets:
        buckets.create_bucket(bucket, region)
    iam = iam_backends[account_id][partition]
    for role in (f"{name}-execution", f"{name}-endpoint"):
        if all(existing.name != role for existing in iam.roles.values()):
            iam.create_role(
                role_name=role,
                assume_role_policy_document=json.dumps(TRUST),
                path="/",
                permissions_boundary=None,
                description="",
                tags=[],
                max_session_duration="3600",
            )
    return bucket
