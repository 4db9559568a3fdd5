"""Tests of platform.yaml: its resources, and the properties that keep them safe."""

import json
import re
from typing import Any

import pytest
from templates import DEV, OPS, PLATFORM, REGION, Json, conditions_hold, load, platform


def bucket(**parameters: Any) -> Json:
    properties: Json = platform("dev", **parameters).resources["Bucket"]["Properties"]
    return properties


def test_the_template_fits_into_a_request() -> None:
    """CreateChangeSet takes a TemplateBody of at most 51,200 bytes. A larger one needs a bucket, which this makes.

    4,096 bytes stay free for the owner's changes.
    """
    assert PLATFORM.stat().st_size <= 51_200 - 4_096
    assert "&" not in re.sub(r"#.*|\"[^\"]*\"", "", PLATFORM.read_text(encoding="utf-8")), (
        "CloudFormation has no aliases"
    )


def test_the_bucket_is_private_encrypted_versioned_and_kept() -> None:
    properties = bucket()
    assert properties["BucketName"] == f"tumour-{DEV}-{REGION}"
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert properties["NotificationConfiguration"]["EventBridgeConfiguration"] == {"EventBridgeEnabled": True}
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    for name in ("Bucket", "Key", "ModelPackageGroup", "OidcProvider"):
        body = load(PLATFORM)["Resources"][name]
        assert body["DeletionPolicy"] == "Retain", name
        assert body["UpdateReplacePolicy"] == "Retain", name


@pytest.mark.parametrize("given", [{"CreateKmsKey": "true"}, {"KmsKeyArn": "arn:aws:kms:eu-west-1:111111111111:key/k"}])
def test_with_a_key_it_encrypts_everything(given: dict[str, str]) -> None:
    stack = platform("dev staging", **given)
    key = given.get("KmsKeyArn", "<Key.Arn>")
    (rule,) = stack.resources["Bucket"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    assert stack.resources["Topic"]["Properties"]["KmsMasterKeyId"] == key
    for role in ("tumour-execution", "tumour-github-train", "tumour-endpoint", "tumour-github-deploy-staging"):
        assert any("kms:Decrypt" in s["Action"] and s["Resource"] == key for s in stack.statements(role)), role


def test_without_a_key_events_still_reach_the_topic() -> None:
    """EventBridge may not use Amazon's key alias/aws/sns, whose policy nobody can change."""
    stack = platform("dev")
    assert "KmsMasterKeyId" not in stack.resources["Topic"]["Properties"]
    assert "Key" not in stack.resources and "KeyUse" not in stack.resources


def test_rules_may_use_the_key_of_the_topic() -> None:
    policy = platform("dev", CreateKmsKey="true").resources["Key"]["Properties"]["KeyPolicy"]["Statement"]
    (services,) = [s for s in policy if "Service" in s["Principal"]]
    assert services["Principal"] == {"Service": "events.amazonaws.com"}
    assert services["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"] and "Condition" not in services


def test_plain_http_is_denied() -> None:
    statements = platform("dev").resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (deny,) = [s for s in statements if s["Effect"] == "Deny"]
    assert deny["Principal"] == "*" and deny["Action"] == "s3:*"
    assert deny["Resource"] == [f"arn:aws:s3:::tumour-{DEV}-{REGION}", f"arn:aws:s3:::tumour-{DEV}-{REGION}/*"]
    assert conditions_hold(deny["Condition"], {"aws:SecureTransport": "false"})
    assert not conditions_hold(deny["Condition"], {"aws:SecureTransport": "true"})


def test_files_of_registered_models_never_expire() -> None:
    """executions/ has artifacts and evaluations. Splits expire, because raw data and code make them again."""
    rules = bucket()["LifecycleConfiguration"]["Rules"]
    for kept in (
        "executions/x/model/y/output/model.tar.gz",
        "models/0a/model.tar.gz",
        "champion/model.tar.gz",
        "raw/v1/a.csv",
        "code/a/train.py",
    ):
        key = f"tumour/{kept}"
        assert not [r for r in rules if "ExpirationInDays" in r and key.startswith(r.get("Prefix", ""))], kept
    expiring = {r["Prefix"]: r["ExpirationInDays"] for r in rules if "ExpirationInDays" in r}
    assert expiring == {"tumour/intermediate/": 90, "tumour/capture/": 90}
    # No archive: objects must stay readable at once.
    assert [t["StorageClass"] for r in rules for t in r.get("Transitions", [])] == ["INTELLIGENT_TIERING"]
    leftovers = next(r for r in rules if r["Id"] == "leftovers")
    assert leftovers["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert leftovers["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_a_cached_split_outlives_the_cache() -> None:
    assert load(PLATFORM)["Parameters"]["IntermediateExpirationDays"]["MinValue"] > 30


def test_the_pipeline_writes_to_prefixes_with_lifecycle_rules() -> None:
    definition = json.loads((PLATFORM.parents[1] / "pipeline" / "definition.json").read_text(encoding="utf-8"))
    prefixes = {
        output["OutputName"]: output["S3Output"]["S3Uri"]["Std:Join"]["Values"][1]
        for step in definition["Steps"]
        if step["Type"] == "Processing"
        for output in step["Arguments"]["ProcessingOutputConfig"]["Outputs"]
    }
    split = dict.fromkeys(("train", "validation", "test"), "intermediate")
    assert prefixes == split | {"report": "executions", "evaluation": "executions"}


def test_the_identity_provider_is_created_or_adopted() -> None:
    made = platform("dev").resources["OidcProvider"]["Properties"]
    assert made["Url"] == "https://token.actions.githubusercontent.com"
    assert made["ClientIdList"] == ["sts.amazonaws.com"]
    adopted = platform("dev", CreateOidcProvider="false")
    assert "OidcProvider" not in adopted.resources
    (statement,) = adopted.role("tumour-github-train")["AssumeRolePolicyDocument"]["Statement"]
    provider = f"arn:aws:iam::{DEV}:oidc-provider/token.actions.githubusercontent.com"
    assert statement["Principal"] == {"Federated": provider}


def test_the_registry_is_shared_only_if_another_account_deploys() -> None:
    assert "ModelPackageGroupPolicy" not in platform("dev").resources["ModelPackageGroup"]["Properties"]
    group = platform("dev", DeployingAccountIds=OPS).resources["ModelPackageGroup"]["Properties"]
    assert group["ModelPackageGroupName"] == "tumour" and group["ModelPackageGroupPolicy"]["Statement"]
    assert "ModelPackageGroup" not in platform("staging prod", OPS).resources


def test_triggers_are_off_by_default() -> None:
    stack = platform("dev")
    assert {stack.resources[n]["Properties"]["State"] for n in ("DataArrivalRule", "ScheduleRule")} == {"DISABLED"}
    (target,) = stack.resources["ScheduleRule"]["Properties"]["Targets"]
    assert target["Arn"] == f"arn:aws:sagemaker:{REGION}:{DEV}:pipeline/tumour"
    assert target["RoleArn"] == f"arn:aws:iam::{DEV}:role/tumour-trigger"
    on = platform("dev", DataArrivalTrigger="ENABLED", ScheduleTrigger="ENABLED")
    assert stack.resources["DataArrivalPipe"]["Properties"]["DesiredState"] == "STOPPED"
    assert on.resources["DataArrivalPipe"]["Properties"]["DesiredState"] == "RUNNING"
    assert {on.resources[n]["Properties"]["State"] for n in ("DataArrivalRule", "ScheduleRule")} == {"ENABLED"}


def test_the_data_arrival_trigger_passes_the_new_data() -> None:
    """Source: "Amazon EventBridge Pipes targets": dynamic paths are for Pipes; no page has them for rules."""
    stack = platform("dev")
    rule, pipe = (stack.resources[name]["Properties"] for name in ("DataArrivalRule", "DataArrivalPipe"))
    assert rule["EventPattern"]["detail"]["object"]["key"] == ["tumour/raw/incoming/_SUCCESS"]
    assert rule["Targets"] == [{"Id": "queue", "Arn": "<ArrivalQueue.Arn>"}] and pipe["Source"] == "<ArrivalQueue.Arn>"
    assert pipe["Target"] == f"arn:aws:sagemaker:{REGION}:{DEV}:pipeline/tumour"
    parameters = pipe["TargetParameters"]["SageMakerPipelineParameters"]["PipelineParameterList"]
    values = {entry["Name"]: entry["Value"] for entry in parameters}
    assert values["InputDataUri"] == f"s3://tumour-{DEV}-{REGION}/tumour/raw/incoming"
    assert values["InputDataVersion"] == "$.body.detail.object.version-id"


RULES = ("FailedExecutionRule", "ModelRule", "AlarmRule")


def test_notification_rules_filter_by_project_and_status() -> None:
    stack = platform("dev staging")
    rules = stack.of_type("AWS::Events::Rule")
    assert {name: rules[name]["EventPattern"]["detail"] for name in RULES} == {
        "FailedExecutionRule": {
            "pipelineArn": [f"arn:aws:sagemaker:{REGION}:{DEV}:pipeline/tumour"],
            "currentPipelineExecutionStatus": ["Failed", "Stopped"],
        },
        "ModelRule": {
            "ModelPackageGroupName": ["tumour"],
            "ModelApprovalStatus": ["PendingManualApproval", "Approved", "Rejected"],
        },
        "AlarmRule": {"alarmName": [{"prefix": "tumour-"}], "state": {"value": ["ALARM"]}},
    }
    for name in RULES:
        (target,) = rules[name]["Targets"]
        assert target["Arn"] == f"arn:aws:sns:{REGION}:{DEV}:tumour-notifications"
        # A role is for other kinds of targets. Source: "Using resource-based policies", EventBridge user guide.
        assert "RoleArn" not in target
    statements = stack.resources["TopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (publish,) = [s for s in statements if s["Principal"] == {"Service": "events.amazonaws.com"}]
    assert publish["Action"] == "sns:Publish" and "Condition" not in publish


@pytest.mark.parametrize("name", RULES)
def test_a_message_is_one_line_with_known_values(name: str) -> None:
    """A template in double quotes is a text; EventBridge puts each value of the event in place of `<name>`."""
    (target,) = platform("dev staging").of_type("AWS::Events::Rule")[name]["Targets"]
    transformer = target["InputTransformer"]
    message = json.loads(transformer["InputTemplate"])
    assert isinstance(message, str) and "\n" not in message
    assert set(re.findall(r"<([A-Za-z]+)>", message)) == set(transformer["InputPathsMap"])
    assert all(path.startswith("$.detail.") for path in transformer["InputPathsMap"].values())


def test_the_owner_subscribes_by_email() -> None:
    assert "Subscription" not in platform("dev").resources
    subscribed = platform("dev", NotificationEmail="ml@example.com").resources["Subscription"]["Properties"]
    assert (subscribed["Protocol"], subscribed["Endpoint"]) == ("email", "ml@example.com")


def test_names_fit_the_limits_of_aws() -> None:
    longest = "a" * 32
    stack = platform("dev staging prod", ProjectName=longest)
    assert len(stack.resources["Bucket"]["Properties"]["BucketName"]) <= 63
    assert all(len(role["RoleName"]) <= 64 for role in stack.of_type("AWS::IAM::Role").values())


def test_outputs() -> None:
    outputs = load(PLATFORM)["Outputs"]
    assert set(outputs) >= {"TemplateVersion", "BucketName", "TopicArn", "OidcProviderArn"}
    for name, output in outputs.items():
        if name.endswith("RoleArn"):
            assert output["Condition"] in ("Dev", "Deploys", "Staging", "Prod")
