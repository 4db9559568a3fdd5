"""`mlops bootstrap`: an account's platform made, kept, reduced and removed, against the stand-in for AWS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Bake, RunIn
from setup_lab import DEV, PLATFORM, PROD, REGION, STAGING, SetupLab

if TYPE_CHECKING:
    from stand_in.remote import Remote

BUCKET = f"my-model-{DEV}-{REGION}"


@pytest.fixture
def lab(baked: Bake, tmp_path: Path, stand_in: Remote, run_in: RunIn, project_env: Path) -> SetupLab:
    """A project with three accounts, nothing in them."""
    made = SetupLab(baked(), tmp_path, stand_in, run_in, project_env)
    made.accounts()
    return made


def test_a_platform_is_made_once(lab: SetupLab) -> None:
    said = lab.mlops("bootstrap", "dev", "--yes")
    assert f"platform of dev · stack {PLATFORM} · account {DEV}, {REGION}" in said
    assert re.search(r"Add +Bucket +AWS::S3::Bucket", said)
    assert "CREATE_COMPLETE" in said and "next:" in said and "mlops run --env dev" in said
    assert lab.stack()["StackStatus"] == "CREATE_COMPLETE"
    assert {"my-model-execution", "my-model-github-train", "my-model-github-approve"} <= lab.roles()
    assert not {"my-model-endpoint", "my-model-github-deploy-staging"} & lab.roles()
    assert lab.parameters()["DeployingAccountIds"] == f"{STAGING},{PROD}"
    assert lab.client("s3").get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"

    again = lab.mlops("bootstrap", "dev", "--yes")
    assert f"{PLATFORM}: no changes" in again
    left = lab.client("cloudformation").list_change_sets(StackName=PLATFORM)["Summaries"]
    assert {change["ExecutionStatus"] for change in left} <= {"EXECUTE_COMPLETE"}
