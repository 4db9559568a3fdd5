"""Tests of the roles' permissions: calls are evaluated against their policies."""

import re
from itertools import product

import permissions
import pytest
from templates import DEV, ENDPOINT, OPS, PLATFORM, REGION, Stack, allowed, as_list, platform

BUCKET = f"arn:aws:s3:::tumour-{DEV}-{REGION}"
SM = f"arn:aws:sagemaker:{REGION}:{DEV}"
PACKAGE = f"{SM}:model-package/tumour/7"
STACK = f"arn:aws:cloudformation:{REGION}:{DEV}:stack"
ALARM = f"arn:aws:cloudwatch:{REGION}:{DEV}:alarm"
ROLE = f"arn:aws:iam::{DEV}:role"
GITHUB = ("train", "approve", "deploy-staging", "deploy-prod")

READ_SEARCH = ("DescribeHyperParameterTuningJob", "ListTrainingJobsForHyperParameterTuningJob")
# (role, action, resource, allowed) in one account with all environments, where only policies separate them.
CALLS = [
    ("train", "s3:PutObject", f"{BUCKET}/tumour/code/abc/train.py", True),
    ("train", "s3:PutObject", f"{BUCKET}/tumour/raw/v1/data.csv", True),
    ("train", "s3:GetObject", f"{BUCKET}/tumour/executions/x/evaluation/evaluation.json", True),
    ("train", "s3:PutObject", f"{BUCKET}/tumour/champion/no-champion.json", True),
    ("train", "s3:PutObject", f"{BUCKET}/tumour/champion/model.tar.gz", False),
    ("train", "s3:GetObject", f"{BUCKET}/tumour/deployments/staging/1.json", True),
    ("train", "s3:PutObject", f"{BUCKET}/tumour/deployments/staging/1.json", False),
    ("train", "s3:PutObject", f"{BUCKET}/tumour/executions/x/evaluation/evaluation.json", False),
    ("train", "s3:DeleteObject", f"{BUCKET}/tumour/raw/v1/data.csv", False),
    ("train", "s3:GetObject", "arn:aws:s3:::other-bucket/tumour/raw/x", False),
    ("train", "sagemaker:CreatePipeline", f"{SM}:pipeline/tumour", True),
    ("train", "sagemaker:StartPipelineExecution", f"{SM}:pipeline/tumour", True),
    ("train", "sagemaker:ListPipelineExecutionSteps", f"{SM}:pipeline/tumour/execution/abc", True),
    ("train", "sagemaker:RetryPipelineExecution", f"{SM}:pipeline/tumour/execution/abc", True),
    ("train", "sagemaker:StartPipelineExecution", f"{SM}:pipeline/other", False),
    ("train", "sagemaker:DescribeTrainingJob", f"{SM}:training-job/pipelines-x-Train-1", True),
    ("train", "sagemaker:CreateTrainingJob", f"{SM}:training-job/pipelines-x-Train-1", False),
    *(("train", f"sagemaker:{call}", f"{SM}:hyper-parameter-tuning-job/x-Tune-1", True) for call in READ_SEARCH),
    ("train", "sagemaker:CreateHyperParameterTuningJob", f"{SM}:hyper-parameter-tuning-job/x-Tune-1", False),
    ("train", "sagemaker:ListModelPackages", f"{SM}:model-package/tumour/*", True),
    ("train", "sagemaker:UpdateModelPackage", PACKAGE, False),
    ("train", "sagemaker:CreateEndpoint", f"{SM}:endpoint/tumour-staging", False),
    ("train", "cloudformation:CreateChangeSet", f"{STACK}/tumour-endpoint-staging/1", False),
    ("train", "logs:GetLogEvents", f"arn:aws:logs:{REGION}:{DEV}:log-group:/aws/sagemaker/TrainingJobs:*", True),
    ("approve", "sagemaker:UpdateModelPackage", PACKAGE, True),
    ("approve", "sagemaker:UpdateModelPackage", f"{SM}:model-package/other/7", False),
    ("approve", "s3:PutObject", f"{BUCKET}/tumour/champion/model.tar.gz", True),
    ("approve", "s3:GetObject", f"{BUCKET}/tumour/executions/x/model/y/output/model.tar.gz", True),
    ("approve", "s3:PutObject", f"{BUCKET}/tumour/executions/x/model/y/output/model.tar.gz", False),
    ("approve", "s3:PutObject", f"{BUCKET}/tumour/models/0a/model.tar.gz", True),
    ("approve", "s3:DeleteObject", f"{BUCKET}/tumour/models/0a/model.tar.gz", False),
    ("train", "s3:PutObject", f"{BUCKET}/tumour/models/0a/model.tar.gz", False),
    ("deploy-staging", "s3:GetObject", f"{BUCKET}/tumour/models/0a/model.tar.gz", True),
    ("deploy-staging", "s3:PutObject", f"{BUCKET}/tumour/models/0a/model.tar.gz", False),
    ("approve", "sagemaker:StartPipelineExecution", f"{SM}:pipeline/tumour", False),
    ("approve", "sagemaker:CreateModel", f"{SM}:model/tumour-staging-7-0123abcd", False),
    ("deploy-staging", "cloudformation:ExecuteChangeSet", f"{STACK}/tumour-endpoint-staging/1", True),
    ("deploy-staging", "cloudformation:ExecuteChangeSet", f"{STACK}/tumour-endpoint-prod/1", False),
    ("deploy-staging", "cloudformation:CreateChangeSet", f"{STACK}/tumour-platform/1", False),
    ("deploy-staging", "sagemaker:UpdateEndpoint", f"{SM}:endpoint/tumour-staging", True),
    ("deploy-staging", "sagemaker:UpdateEndpoint", f"{SM}:endpoint/tumour-prod", False),
    ("deploy-staging", "sagemaker:InvokeEndpoint", f"{SM}:endpoint/tumour-prod", False),
    ("deploy-staging", "sagemaker:CreateModel", f"{SM}:model/tumour-staging-7-0123abcd", True),
    ("deploy-staging", "sagemaker:CreateModel", PACKAGE, True),
    ("deploy-staging", "sagemaker:DeleteModel", f"{SM}:model/tumour-prod-7-0123abcd", False),
    ("deploy-staging", "sagemaker:DescribeModelPackage", PACKAGE, True),
    ("deploy-staging", "sagemaker:UpdateModelPackage", PACKAGE, False),
    ("deploy-staging", "s3:PutObject", f"{BUCKET}/tumour/deployments/staging/1.json", True),
    ("deploy-staging", "s3:PutObject", f"{BUCKET}/tumour/deployments/prod/1.json", False),
    ("deploy-staging", "s3:PutObject", f"{BUCKET}/tumour/champion/model.tar.gz", False),
    (
        "deploy-staging",
        "cloudwatch:PutMetricAlarm",
        f"{ALARM}:tumour-staging-5xx",
        True,
    ),
    ("deploy-staging", "cloudwatch:DeleteAlarms", f"{ALARM}:tumour-prod-5xx", False),
    ("deploy-prod", "sagemaker:UpdateEndpoint", f"{SM}:endpoint/tumour-prod", True),
    ("deploy-prod", "sagemaker:UpdateEndpoint", f"{SM}:endpoint/tumour-staging", False),
    ("deploy-prod", "sagemaker:StartPipelineExecution", f"{SM}:pipeline/tumour", False),
]
ECR = f"arn:aws:ecr:{REGION}"
PULL = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")
# IAM permissions for pushing an image to an Amazon ECR private repository, ECR user guide
PUSH = ("CompleteLayerUpload", "UploadLayerPart", "InitiateLayerUpload", "BatchCheckLayerAvailability", "PutImage")
CHANGES_OF_IAM = ("CreateRole", "PutRolePolicy", "AttachRolePolicy", "UpdateAssumeRolePolicy", "DeleteRole", "TagRole")


@pytest.fixture(scope="module")
def stack() -> Stack:
    return platform("dev staging prod", CreateImageRepository="true")


def test_calls_are_allowed_or_denied_as_listed(stack: Stack) -> None:
    wrong = [
        f"{role}: {action} on {resource} is {'denied' if expected else 'allowed'}"
        for role, action, resource, expected in CALLS
        if allowed(stack.statements(f"tumour-github-{role}"), action, resource) != expected
    ]
    assert wrong == []


def test_no_role_can_change_iam(stack: Stack) -> None:
    for role in stack.of_type("AWS::IAM::Role").values():
        statements = stack.statements(role["RoleName"])
        actions = [action for s in statements for action in as_list(s["Action"]) if action.startswith(("iam", "sts"))]
        assert set(actions) <= {"iam:PassRole"}, role["RoleName"]
        for change, other in product(CHANGES_OF_IAM, ("tumour-execution", "tumour-github-train", "admin")):
            assert not allowed(statements, f"iam:{change}", f"{ROLE}/{other}", iam__PassedToService="iam.amazonaws.com")


@pytest.mark.parametrize(
    ("role", "passes"),
    [
        ("github-train", "tumour-execution"),
        ("execution", "tumour-execution"),
        ("github-deploy-staging", "tumour-endpoint"),
        ("github-deploy-prod", "tumour-endpoint"),
        ("github-approve", None),
        ("endpoint", None),
        ("trigger", None),
    ],
)
def test_roles_are_passed_to_sagemaker_only(stack: Stack, role: str, passes: str | None) -> None:
    statements = stack.statements(f"tumour-{role}")
    for other in ("tumour-execution", "tumour-endpoint", "tumour-github-deploy-prod", "admin"):
        arn = f"{ROLE}/{other}"
        given = allowed(statements, "iam:PassRole", arn, iam__PassedToService="sagemaker.amazonaws.com")
        assert given == (other == passes), other
        for service in ("lambda", "ec2", "cloudformation"):
            assert not allowed(statements, "iam:PassRole", arn, iam__PassedToService=f"{service}.amazonaws.com")
        assert not allowed(statements, "iam:PassRole", arn)


def test_jobs_can_register_models_but_never_approve_them(stack: Stack) -> None:
    statements = stack.statements("tumour-execution")
    # SageMaker calls this for each RegisterModel step, also if the group exists.
    assert allowed(statements, "sagemaker:CreateModelPackageGroup", f"{SM}:model-package-group/tumour")
    assert not allowed(statements, "sagemaker:CreateModelPackageGroup", f"{SM}:model-package-group/other")
    for status, expected in (("PendingManualApproval", True), ("Approved", False)):
        context = {"sagemaker__ModelApprovalStatus": status}
        assert allowed(statements, "sagemaker:CreateModelPackage", PACKAGE, **context) == expected
    assert not allowed(statements, "sagemaker:UpdateModelPackage", PACKAGE)
    assert not allowed(statements, "s3:PutObject", f"{BUCKET}/tumour/champion/model.tar.gz")
    assert not allowed(statements, "s3:PutObject", f"{BUCKET}/tumour/models/0a/model.tar.gz")  # what endpoints read
    assert not allowed(statements, "s3:PutObject", f"{BUCKET}/tumour/raw/v1/data.csv")
    assert not allowed(statements, "s3:PutObject", f"{BUCKET}/tumour/deployments/staging/1.json")  # a forged record
    assert not allowed(statements, "sagemaker:CreateEndpoint", f"{SM}:endpoint/tumour-prod")


def test_jobs_can_run_a_search(stack: Stack) -> None:
    """Its name has no prefix: SageMaker gives it at most 32 characters. Its training jobs are SageMaker's own calls."""
    statements, search = stack.statements("tumour-execution"), f"{SM}:hyper-parameter-tuning-job/x-Tune-1"
    for call in ("CreateHyperParameterTuningJob", "StopHyperParameterTuningJob", "AddTags", *READ_SEARCH):
        assert allowed(statements, f"sagemaker:{call}", search), call
    assert not allowed(statements, "sagemaker:DeleteHyperParameterTuningJob", search)
    assert allowed(statements, "s3:PutObject", f"{BUCKET}/tumour/executions/x/model/x-Tune-1-001-0/output/model.tar.gz")


def test_a_deploying_account_reads_models_and_nothing_else() -> None:
    dev, ops = platform("dev", DeployingAccountIds=OPS), platform("staging prod", OPS)
    deploy = ops.statements("tumour-github-deploy-prod")
    policy = dev.resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    shared = [statement for statement in policy if statement["Effect"] == "Allow"]
    assert [statement["Principal"] for statement in shared] == [{"AWS": [OPS]}]
    endpoint = ops.statements("tumour-endpoint")
    keys = {
        "executions/x/model.tar.gz": True,
        "models/0a/model.tar.gz": True,
        "raw/v1/data.csv": False,
        "champion/x": False,
    }
    for key, expected in keys.items():
        arn = f"{BUCKET}/tumour/{key}"
        for role, right in (("github-deploy-prod", True), ("endpoint", True), ("admin", False)):
            caller = {"aws__PrincipalArn": f"arn:aws:iam::{OPS}:role/tumour-{role}"}
            assert allowed(shared, "s3:GetObject", arn, **caller) == (expected and right)
        assert allowed(deploy, "s3:GetObject", arn) == expected
        assert allowed(endpoint, "s3:GetObject", arn) == key.startswith("models/")
    group = dev.resources["ModelPackageGroup"]["Properties"]["ModelPackageGroupPolicy"]["Statement"]
    assert all(statement["Principal"] == {"AWS": [OPS]} for statement in group)
    assert allowed(group, "sagemaker:CreateModel", PACKAGE) and allowed(deploy, "sagemaker:CreateModel", PACKAGE)
    assert not allowed(group, "sagemaker:UpdateModelPackage", PACKAGE)


def test_only_the_image_role_pushes_the_image_and_only_containers_pull_it(stack: Stack) -> None:
    own, base, other = (
        f"{ECR}:{DEV}:repository/tumour",
        f"{ECR}:141502667606:repository/sagemaker-xgboost",
        f"{ECR}:{DEV}:repository/x",
    )
    for role in ("github-image", "execution", "endpoint", "github-train", "github-deploy-prod"):
        statements = stack.statements(f"tumour-{role}")
        pulls = role in ("github-image", "execution", "endpoint")
        assert allowed(statements, "ecr:GetAuthorizationToken", "*") == pulls, role
        for action in PULL:
            assert [allowed(statements, action, each) for each in (base, other)] == [pulls, False], (role, action)
        assert allowed(statements, "ecr:BatchGetImage", own) == pulls, role
        for call in (*PUSH[:3], "PutImage"):
            assert allowed(statements, f"ecr:{call}", own) == (role == "github-image"), (role, call)
            assert not allowed(statements, f"ecr:{call}", other) and not allowed(statements, f"ecr:{call}", base)
    image = stack.statements("tumour-github-image")
    assert all(allowed(image, f"ecr:{call}", own) for call in (*PUSH, "BatchGetImage", "DescribeImages"))
    assert not any(allowed(image, f"ecr:{call}", own) for call in ("BatchDeleteImage", "SetRepositoryPolicy"))


def test_a_deploying_account_pulls_the_image() -> None:
    """Sources: "Deploy a Model Version from a Different Account", SageMaker guide; both sides must allow it."""
    dev, ops = platform("dev", DeployingAccountIds=OPS, CreateImageRepository="true"), platform("staging prod", OPS)
    repository = dev.resources["ImageRepository"]["Properties"]
    (shared,) = repository["RepositoryPolicyText"]["Statement"]
    assert (
        shared["Principal"] == {"AWS": [OPS]}
        and tuple(shared["Action"]) == PULL
        and repository["RepositoryName"] == "tumour"
    )
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert all(allowed(ops.statements("tumour-endpoint"), action, f"{ECR}:{DEV}:repository/tumour") for action in PULL)
    alone = platform("dev", CreateImageRepository="true").resources["ImageRepository"]["Properties"]
    assert "RepositoryPolicyText" not in alone
    assert {"ImageRepository", "ImageRole"}.isdisjoint({*platform("dev").resources, *ops.resources})


def test_the_endpoint_may_read_its_rollback_alarms(stack: Stack) -> None:
    """Source: "Auto-Rollback Configuration and Monitoring", SageMaker developer guide."""
    statements = stack.statements("tumour-endpoint")
    assert allowed(statements, "cloudwatch:DescribeAlarms", f"{ALARM}:tumour-staging-5xx")
    assert not allowed(statements, "cloudwatch:DescribeAlarms", f"{ALARM}:other")


def test_roles_list_only_the_objects_of_the_project(stack: Stack) -> None:
    for role in ("tumour-github-train", "tumour-execution", "tumour-github-deploy-prod"):
        statements = stack.statements(role)
        assert allowed(statements, "s3:ListBucket", BUCKET, s3__prefix="tumour/code/")
        assert not allowed(statements, "s3:ListBucket", BUCKET, s3__prefix="other/")
        assert not allowed(statements, "s3:ListBucket", BUCKET)


# Every line with a bare wildcard. A new one must be added here by hand.
WILDCARDS = {
    "Action: kms:*": 1,  # for the account, as in the default key policy of AWS
    "Action: s3:*": 1,  # a Deny
    'Resource: "*"  # the key itself': 3,
    '- {Sid: LogInToEcr, Effect: Allow, Action: ecr:GetAuthorizationToken, Resource: "*"}  # not resource-based': 2,
    'Resource: "*"  # not resource-based; limited by namespace': 1,
    'Resource: "*"  # not resource-based': 2,
    'Principal: "*"': 2,  # Deny without TLS
}


def test_templates_have_no_other_wildcards() -> None:
    found: dict[str, int] = {}
    for file in (PLATFORM, ENDPOINT):
        for line in file.read_text(encoding="utf-8").splitlines():
            if re.search(r"(Action|Resource|Principal): *(\"\*\"|\*|\w+:\*)|- \"\*\"|\[\"\*\"", line):
                found[line.strip()] = found.get(line.strip(), 0) + 1
    assert found == WILDCARDS


def test_no_policy_allows_every_action(stack: Stack) -> None:
    for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        assert all("'*'" not in str(s["Action"]) and ":*" not in str(s["Action"]) for s in every_statement(stack, kind))


def every_statement(stack: Stack, kind: str) -> list[dict[str, object]]:
    bodies = stack.of_type(kind).values()
    documents = [p["PolicyDocument"] for b in bodies for p in b.get("Policies", [])]
    documents += [body["PolicyDocument"] for body in bodies if "PolicyDocument" in body]
    return [statement for document in documents for statement in document["Statement"]]


def test_unconditional_wildcards_are_for_actions_without_resource_types(stack: Stack) -> None:
    free = {
        action
        for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")
        for statement in every_statement(stack, kind)
        if statement["Resource"] == "*" and "Condition" not in statement
        for action in as_list(statement["Action"])
    }
    # Source: Service Authorization Reference.
    assert free == {
        "ecr:GetAuthorizationToken",
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingPolicies",
    }


def test_the_permissions_page_is_up_to_date() -> None:
    assert permissions.PAGE.read_text(encoding="utf-8") == permissions.page(), "run `python scripts/permissions.py`"


def test_the_permissions_page_has_every_role_and_action(stack: Stack) -> None:
    table = permissions.PAGE.read_text(encoding="utf-8")
    for role in stack.of_type("AWS::IAM::Role").values():
        part = table.partition(f"## `{role['RoleName']}`")[2].partition("\n## ")[0]
        actions = {action for s in stack.statements(role["RoleName"]) for action in as_list(s["Action"])}
        shown = {line.split(" | ")[1] for line in part.splitlines() if line.startswith("| ")}
        assert actions == set(re.findall(r"`([a-z0-9-]+:[A-Z]\w+)`", str(shown))), role["RoleName"]
