"""What a project's account has before its first run: what its platform stack would have made."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

from moto.awslambda.models import lambda_backends
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.utilities.utils import get_partition

import sagegate

ROLES = {"execution": "sagemaker", "endpoint": "sagemaker", "notify": "lambda"}  # and the service that assumes each


def trust(service: str) -> str:
    """The trust policy of a role that a service assumes."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def project(name: str, account_id: str, region: str) -> str:
    """Make the bucket, the jobs' and endpoints' roles and the notifier, where missing; the bucket's name."""
    partition = get_partition(region)
    bucket = f"{name}-{account_id}-{region}"
    buckets = s3_backends[account_id][partition]
    if bucket not in buckets.buckets:
        buckets.create_bucket(bucket, region)
    iam = iam_backends[account_id][partition]
    for purpose, service in ROLES.items():
        role = f"{name}-{purpose}"
        if all(existing.name != role for existing in iam.roles.values()):
            iam.create_role(
                role_name=role,
                assume_role_policy_document=trust(service),
                path="/",
                permissions_boundary=None,
                description="",
                tags=[],
                max_session_duration="3600",
            )
    _notify(name, account_id, region, f"arn:{partition}:iam::{account_id}:role/{name}-notify")
    return bucket


def _notify(project: str, account_id: str, region: str, role: str) -> None:
    """The function that the pipeline's Notify steps call, with the machinery's own code; it has no topic here."""
    handler = Path(sagegate.__file__).parents[2] / "{{cookiecutter.project_slug}}" / "infra" / "notify" / "handler.py"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", handler.read_text(encoding="utf-8"))
    lambda_backends[account_id][region].create_function(
        {
            "FunctionName": f"{project}-notify",
            "Runtime": "python3.12",
            "Role": role,
            "Handler": "handler.handler",
            "Code": {"ZipFile": base64.b64encode(packed.getvalue()).decode()},
        }
    )
