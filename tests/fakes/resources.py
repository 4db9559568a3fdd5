"""CloudFormation's resource types of the project's two templates.

A type whose resource somebody reads calls its service through boto3. The others, such as policies, which the fake does
not evaluate, exist in their stack only.
"""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sagegate.files import Json

Clients = Callable[[str], Any]  # returns the boto3 client of a service
UPDATE_ONLY = ("RetainAllVariantProperties", "ExcludeRetainedVariantProperties")  # of UpdateEndpoint


class Failed(Exception):
    """The resource cannot be created or changed; the message is the reason in the stack's event."""


@dataclass(frozen=True)
class Created:
    """The value of Ref, and the values of GetAtt."""

    identity: str
    attributes: Json


def coerce(shape: Any, value: Any) -> Any:
    """Return a value of a template with the types of the API's shape; CloudFormation's values may be strings."""
    if shape.type_name == "structure" and isinstance(value, dict):
        return {k: coerce(shape.members[k], v) if k in shape.members else v for k, v in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [coerce(shape.member, item) for item in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {k: coerce(shape.value, item) for k, item in value.items()}
    if isinstance(value, str) and shape.type_name in ("integer", "long", "double", "float"):
        return (int if shape.type_name in ("integer", "long") else float)(value)
    if isinstance(value, str) and shape.type_name == "boolean":
        return value.lower() == "true"
    if shape.type_name == "string" and not isinstance(value, str):
        return json.dumps(value, default=str)
    return value


def call(client: Any, method: str, request: Json) -> Json:
    """Send one request, and return the response; raises boto3's errors."""
    operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    answer: Json = getattr(client, method)(**coerce(operation.input_shape, request))
    return answer


def without(properties: Json, *names: str) -> Json:
    """Return the properties except those of these names."""
    return {key: value for key, value in properties.items() if key not in names}


class Kind:
    """A resource type with one request to create or update it, and one to delete it.

    `name` is the property that names the resource. A change of a property in `fixed` replaces the resource; `*` means
    all properties except Tags.
    """

    def __init__(self, service: str, put: str, delete: str, name: str = "", fixed: tuple[str, ...] = ()) -> None:
        self.service, self._put, self._delete, self.name = service, put, delete, name
        self._fixed = fixed or (name,)

    def replaces(self, changed: set[str]) -> bool:
        """Return True if a change of these properties needs a new resource."""
        return bool(changed - {"Tags"} if "*" in self._fixed else changed & set(self._fixed))

    def create(self, clients: Clients, properties: Json) -> Created:
        """Create the resource."""
        return self.created(properties, call(clients(self.service), self._put, self.request(properties)))

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        """Change the resource in place."""
        return self.create(clients, new)

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """Delete the resource."""
        call(clients(self.service), self._delete, self.deletion(identity, properties))

    def request(self, properties: Json) -> Json:
        """Return the API's request for a resource's properties."""
        return properties

    def created(self, properties: Json, answer: Json) -> Created:
        """Return what Ref and GetAtt give, from the API's response."""
        arn = next((value for key, value in answer.items() if key.lower().endswith("arn")), "")
        return Created(properties[self.name], {"Arn": arn, self.name: properties[self.name]})

    def deletion(self, identity: str, properties: Json) -> Json:
        """Return the API's request that deletes the resource."""
        return {self.name: properties[self.name]}


# --- SageMaker ---------------------------------------------------------------------------------------------------
class SageMaker(Kind):
    """A type of SageMaker: Ref gives the ARN, and only tags change in place."""

    def __init__(self, noun: str, name: str) -> None:
        super().__init__("sagemaker", f"create_{noun}", f"delete_{noun}", name, ("*",))

    def created(self, properties: Json, answer: Json) -> Created:
        arn = next(value for key, value in answer.items() if key.endswith("Arn"))
        return Created(arn, {self.name: properties[self.name], f"{self.name.removesuffix('Name')}Arn": arn})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        clients("sagemaker").add_tags(ResourceArn=identity, Tags=new.get("Tags", []))
        return self.created(new, {"Arn": identity})


class ModelPackageGroup(SageMaker):
    """AWS::SageMaker::ModelPackageGroup; the policy has an API of its own."""

    def replaces(self, changed: set[str]) -> bool:
        return bool(changed - {"Tags", "ModelPackageGroupPolicy"})

    def create(self, clients: Clients, properties: Json) -> Created:
        created = super().create(clients, without(properties, "ModelPackageGroupPolicy"))
        self._put_policy(clients, properties)
        return created

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        self._put_policy(clients, new)
        return super().update(clients, identity, old, new)

    def _put_policy(self, clients: Clients, properties: Json) -> None:
        if policy := properties.get("ModelPackageGroupPolicy"):
            request = {"ModelPackageGroupName": properties[self.name], "ResourcePolicy": policy}
            call(clients("sagemaker"), "put_model_package_group_policy", request)


class Endpoint(SageMaker):
    """AWS::SageMaker::Endpoint, which waits until the endpoint is InService with the configuration asked for."""

    def replaces(self, changed: set[str]) -> bool:
        return "EndpointName" in changed

    def create(self, clients: Clients, properties: Json) -> Created:
        created = super().create(clients, without(properties, *UPDATE_ONLY))
        try:
            self._wait(clients, properties)
        except Failed:
            self.delete(clients, created.identity, properties)
            raise
        return created

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        found = clients("sagemaker").describe_endpoint(EndpointName=new["EndpointName"])
        if found["EndpointConfigName"] != new["EndpointConfigName"]:  # equal after the endpoint's own rollback
            call(clients("sagemaker"), "update_endpoint", without(new, "Tags"))
            self._wait(clients, new)
        return self.created(new, {"EndpointArn": identity})

    def _wait(self, clients: Clients, properties: Json) -> None:
        while True:
            found = clients("sagemaker").describe_endpoint(EndpointName=properties["EndpointName"])
            if found["EndpointStatus"] in ("InService", "Failed"):
                break
            time.sleep(0.05)
        if found["EndpointStatus"] == "Failed" or found["EndpointConfigName"] != properties["EndpointConfigName"]:
            raise Failed(found.get("FailureReason", "the endpoint has another configuration"))

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        client, name = clients("sagemaker"), properties["EndpointName"]
        client.delete_endpoint(EndpointName=name)
        try:
            while True:
                client.describe_endpoint(EndpointName=name)
                time.sleep(0.05)
        except client.exceptions.ClientError as error:
            if "Could not find endpoint" not in str(error):
                raise


# --- other services ----------------------------------------------------------------------------------------------
class Record(Kind):
    """A type whose resources exist in their stack only; Ref gives a made-up identity."""

    def __init__(self) -> None:
        super().__init__("", "", "")

    def create(self, clients: Clients, properties: Json) -> Created:
        identity = str(uuid.uuid4())
        return Created(identity, {"Arn": identity})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        return Created(identity, {"Arn": identity})

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """Do nothing."""


class ByIdentity(Kind):
    """A type whose Ref is a value of the response, which also deletes it.

    `answer` is the path to that value in the response, and `argument` its name in the request that deletes it. `takes`
    has the properties that are sent, with their names in the API.
    """

    def __init__(self, service: str, put: str, delete: str, answer: str, argument: str, takes: dict[str, str]) -> None:
        super().__init__(service, put, delete, fixed=tuple(takes))
        self._answer, self._argument, self._takes = answer.split("."), argument, takes

    def request(self, properties: Json) -> Json:
        return {new: properties[old] for old, new in self._takes.items()}

    def created(self, properties: Json, answer: Json) -> Created:
        value: Any = answer
        for key in self._answer:
            value = value[key]
        return Created(value, {"Arn": value})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        return Created(identity, {"Arn": identity})

    def deletion(self, identity: str, properties: Json) -> Json:
        return {self._argument: identity}


class Role(Kind):
    """AWS::IAM::Role without its policies."""

    def request(self, properties: Json) -> Json:
        return without(properties, "Policies", "ManagedPolicyArns")

    def created(self, properties: Json, answer: Json) -> Created:
        return Created(properties["RoleName"], {"Arn": answer["Role"]["Arn"]})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        client, role = clients("iam"), {"RoleName": identity}
        call(client, "update_assume_role_policy", {**role, "PolicyDocument": new["AssumeRolePolicyDocument"]})
        call(client, "update_role", role | {k: new[k] for k in ("Description", "MaxSessionDuration") if k in new})
        if boundary := new.get("PermissionsBoundary"):
            client.put_role_permissions_boundary(**role, PermissionsBoundary=boundary)
        elif "PermissionsBoundary" in old:
            client.delete_role_permissions_boundary(**role)
        return self.created(new, client.get_role(**role))


class Bucket(Kind):
    """AWS::S3::Bucket with the settings that `sagegate doctor` reads."""

    def create(self, clients: Clients, properties: Json) -> Created:
        client, name = clients("s3"), properties["BucketName"]
        region = client.meta.region_name
        location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=name, **location)
        return self.update(clients, name, {}, properties)

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        for key, method in (
            ("VersioningConfiguration", "put_bucket_versioning"),
            ("PublicAccessBlockConfiguration", "put_public_access_block"),
        ):
            if key in new:
                call(clients("s3"), method, {"Bucket": identity, key: new[key]})
        return Created(identity, {"Arn": f"arn:aws:s3:::{identity}"})

    def deletion(self, identity: str, properties: Json) -> Json:
        return {"Bucket": identity}


class Function(Kind):
    """AWS::Lambda::Function with inline code, which CloudFormation puts into index.py."""

    def request(self, properties: Json) -> Json:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("index.py", properties["Code"]["ZipFile"])
        return properties | {"Code": {"ZipFile": packed.getvalue()}}

    def created(self, properties: Json, answer: Json) -> Created:
        return Created(properties["FunctionName"], {"Arn": answer["FunctionArn"]})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        code = self.request(new)["Code"]
        return self.created(new, clients("lambda").update_function_code(FunctionName=identity, **code))


class Alarm(Kind):
    """AWS::CloudWatch::Alarm, whose API deletes by a list of names."""

    def deletion(self, identity: str, properties: Json) -> Json:
        return {"AlarmNames": [identity]}


class Rule(Kind):
    """AWS::Events::Rule without its targets."""

    def request(self, properties: Json) -> Json:
        return without(properties, "Targets")


TYPES: dict[str, Kind] = {
    "AWS::SageMaker::Model": SageMaker("model", "ModelName"),
    "AWS::SageMaker::EndpointConfig": SageMaker("endpoint_config", "EndpointConfigName"),
    "AWS::SageMaker::Endpoint": Endpoint("endpoint", "EndpointName"),
    "AWS::SageMaker::ModelPackageGroup": ModelPackageGroup("model_package_group", "ModelPackageGroupName"),
    "AWS::CloudWatch::Alarm": Alarm("cloudwatch", "put_metric_alarm", "delete_alarms", "AlarmName"),
    "AWS::Events::Rule": Rule("events", "put_rule", "delete_rule", "Name"),
    "AWS::IAM::Role": Role("iam", "create_role", "delete_role", "RoleName", ("RoleName", "Path")),
    "AWS::Lambda::Function": Function("lambda", "create_function", "delete_function", "FunctionName"),
    "AWS::S3::Bucket": Bucket("s3", "create_bucket", "delete_bucket", "BucketName"),
    "AWS::IAM::OIDCProvider": ByIdentity(
        "iam",
        "create_open_id_connect_provider",
        "delete_open_id_connect_provider",
        "OpenIDConnectProviderArn",
        "OpenIDConnectProviderArn",
        {"Url": "Url", "ClientIdList": "ClientIDList"},
    ),
    "AWS::IAM::ServiceLinkedRole": ByIdentity(
        "iam",
        "create_service_linked_role",
        "delete_service_linked_role",
        "Role.RoleName",
        "RoleName",
        {"AWSServiceName": "AWSServiceName"},
    ),
    "AWS::ECR::Repository": ByIdentity(
        "ecr",
        "create_repository",
        "delete_repository",
        "repository.repositoryName",
        "repositoryName",
        {"RepositoryName": "repositoryName"},
    ),
    "AWS::KMS::Key": ByIdentity("kms", "create_key", "schedule_key_deletion", "KeyMetadata.Arn", "KeyId", {}),
    "AWS::SNS::Topic": ByIdentity("sns", "create_topic", "delete_topic", "TopicArn", "TopicArn", {"TopicName": "Name"}),
    **{
        f"AWS::{name}": Record()
        for name in (
            "ApplicationAutoScaling::ScalableTarget",
            "ApplicationAutoScaling::ScalingPolicy",
            "CloudWatch::Dashboard",
            "IAM::ManagedPolicy",
            "Lambda::Permission",
            "Logs::LogGroup",
            "Pipes::Pipe",
            "S3::BucketPolicy",
            "SNS::Subscription",
            "SNS::TopicPolicy",
            "SQS::Queue",
            "SQS::QueuePolicy",
        )
    },
}
