"""The Model Registry: moto's, with what it drops and lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from local_lab import BUCKET

from stand_in.aws_lab import AwsLab, client
from stand_in.server import StandIn

Json = dict[str, Any]
GROUP = "models"
HEAD = "arn:aws:sagemaker:us-east-1:000000000000"
SPECIFICATION = {
    "Containers": [{"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}
METRICS = {"ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": f"s3://{BUCKET}/e.json"}}}


def register(aws: AwsLab) -> str:
    """Run a RegisterModel step; the ARN of its model package."""
    arguments = {
        "ModelPackageGroupName": GROUP,
        "InferenceSpecification": SPECIFICATION,
        "ModelMetrics": METRICS,
        "CustomerMetadataProperties": {"commit": "abc", "dirty": "no"},
        "ModelApprovalStatus": "PendingManualApproval",
    }
    done = aws.run({"Name": "Register", "Type": "RegisterModel", "Arguments": arguments})
    assert done.status == "Succeeded", done.steps
    return str(done.steps["Register"]["Metadata"]["RegisterModel"]["Arn"])


def described(aws: AwsLab, arn: str) -> Json:
    return dict(aws.client.describe_model_package(ModelPackageName=arn))


def refused(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**request)
    return str(error.value.response["Error"]["Code"])


def test_a_register_step_makes_a_package_that_boto3_sees(aws: AwsLab) -> None:
    arn = register(aws)
    assert arn == f"{HEAD}:model-package/{GROUP}/1"
    package = described(aws, arn)
    assert package["InferenceSpecification"] == SPECIFICATION
    assert package["ModelMetrics"] == METRICS
    assert (package["ModelPackageVersion"], package["ModelPackageStatus"]) == (1, "Completed")
    group = aws.client.describe_model_package_group(ModelPackageGroupName=GROUP)
    assert group["ModelPackageGroupStatus"] == "Completed"


def test_an_update_changes_what_it_names_and_keeps_the_rest(aws: AwsLab) -> None:
    arn = register(aws)
    stage = {"Stage": "Staging", "StageStatus": "Deployed", "StageDescription": "by pull request 3"}
    update = aws.client.update_model_package
    update(ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="ann: good", ModelLifeCycle=stage)
    update(
        ModelPackageArn=arn, CustomerMetadataProperties={"dirty": "yes"}, CustomerMetadataPropertiesToRemove=["commit"]
    )
    package = described(aws, arn)
    assert (package["ModelApprovalStatus"], package["ApprovalDescription"]) == ("Approved", "ann: good")
    assert package["ModelLifeCycle"] == stage
    assert package["CustomerMetadataProperties"] == {"dirty": "yes"}
    assert package["ModelMetrics"] == METRICS
    assert package["LastModifiedTime"] >= package["CreationTime"]
    with pytest.raises(ClientError):
        update(ModelPackageArn=arn, ModelApprovalStatus="Perhaps")


def test_packages_are_listed_in_pages_by_status_and_order(aws: AwsLab) -> None:
    arns = [register(aws) for _ in range(3)]
    aws.client.update_model_package(ModelPackageArn=arns[1], ModelApprovalStatus="Approved")
    call = aws.client.list_model_packages
    newest = call(ModelPackageGroupName=GROUP, SortOrder="Descending", MaxResults=2)
    assert [p["ModelPackageVersion"] for p in newest["ModelPackageSummaryList"]] == [3, 2]
    rest = call(ModelPackageGroupName=GROUP, SortOrder="Descending", MaxResults=2, NextToken=newest["NextToken"])
    assert [p["ModelPackageVersion"] for p in rest["ModelPackageSummaryList"]] == [1]
    approved = call(ModelPackageGroupName=f"{HEAD}:model-package-group/{GROUP}", ModelApprovalStatus="Approved")
    assert [p["ModelPackageArn"] for p in approved["ModelPackageSummaryList"]] == [arns[1]]


def test_a_deleted_version_s_number_is_not_given_again(aws: AwsLab) -> None:
    arns = [register(aws), register(aws)]
    aws.client.delete_model_package(ModelPackageName=arns[1])
    assert refused(aws.client.describe_model_package, ModelPackageName=arns[1]) == "ValidationException"
    assert register(aws).endswith("/3")


def test_a_group_is_deleted_only_when_it_is_empty(aws: AwsLab) -> None:
    arn = register(aws)
    delete = aws.client.delete_model_package_group
    assert refused(delete, ModelPackageGroupName=GROUP) == "ConflictException"
    aws.client.delete_model_package(ModelPackageName=arn)
    delete(ModelPackageGroupName=GROUP)
    assert refused(delete, ModelPackageGroupName=GROUP) == "ValidationException"
    aws.client.create_model_package_group(ModelPackageGroupName=GROUP)
    assert refused(aws.client.create_model_package_group, ModelPackageGroupName=GROUP) == "ValidationException"


@pytest.mark.filterwarnings("ignore:.*does not match an error shape")  # moto: AccessDenied is in no service's model
def test_another_account_reads_a_package_only_if_the_group_s_policy_names_it(aws: AwsLab, here: StandIn) -> None:
    arn = register(aws)
    other = client("sagemaker", here.environment("222222222222", "us-east-1"))
    assert refused(other.describe_model_package, ModelPackageName=arn) == "AccessDeniedException"
    get = aws.client.get_model_package_group_policy
    assert refused(get, ModelPackageGroupName=GROUP) == "ValidationException"
    policy = json.dumps({"Statement": [{"Principal": {"AWS": "arn:aws:iam::222222222222:root"}}]})
    aws.client.put_model_package_group_policy(ModelPackageGroupName=GROUP, ResourcePolicy=policy)
    assert get(ModelPackageGroupName=GROUP)["ResourcePolicy"] == policy
    assert other.describe_model_package(ModelPackageName=arn)["ModelPackageArn"] == arn
    aws.client.delete_model_package_group_policy(ModelPackageGroupName=GROUP)
    assert refused(other.describe_model_package, ModelPackageName=arn) == "AccessDeniedException"


def test_a_package_is_created_by_boto3_too(aws: AwsLab) -> None:
    request = {"ModelPackageGroupName": GROUP, "InferenceSpecification": SPECIFICATION}
    assert refused(aws.client.create_model_package, **request) == "ValidationException"
    aws.client.create_model_package_group(ModelPackageGroupName=GROUP, Tags=[{"Key": "a", "Value": "b"}])
    arn = aws.client.create_model_package(**request, ModelLifeCycle={"Stage": "Dev", "StageStatus": "New"})[
        "ModelPackageArn"
    ]
    assert described(aws, arn)["ModelLifeCycle"]["Stage"] == "Dev"
    assert described(aws, arn)["ModelApprovalStatus"] == "PendingManualApproval"
