"""CloudFormation's resource types of the project's two templates: each calls its service's API, as CloudFormation does.

The requests go through boto3, which validates them. Types that are not here are created by moto's own models.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sagegate.files import Json

Clients = Callable[[str], Any]  # returns the boto3 client of a service
SCALING_TARGET = ("ResourceId", "ScalableDimension", "ServiceNamespace")
UPDATE_ONLY = ("RetainAllVariantProperties", "ExcludeRetainedVariantProperties")  # of UpdateEndpoint
BUCKET_SETTINGS = {
    "VersioningConfiguration": "put_bucket_versioning",
    "PublicAccessBlockConfiguration": "put_public_access_block",
    "OwnershipControls": "put_bucket_ownership_controls",
}


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


# --- SageMaker, CloudWatch, autoscaling --------------------------------------------------------------------------
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


class ScalableTarget(Kind):
    """AWS::ApplicationAutoScaling::ScalableTarget; Ref gives the three keys."""

    def created(self, properties: Json, answer: Json) -> Created:
        identity = "|".join(properties[key] for key in SCALING_TARGET)
        return Created(identity, {"Id": identity})

    def deletion(self, identity: str, properties: Json) -> Json:
        return dict(zip(SCALING_TARGET, identity.split("|"), strict=True))


class ScalingPolicy(Kind):
    """AWS::ApplicationAutoScaling::ScalingPolicy."""

    def request(self, properties: Json) -> Json:
        target = properties["ScalingTargetId"].split("|")
        return without(properties, "ScalingTargetId") | dict(zip(SCALING_TARGET, target, strict=True))

    def created(self, properties: Json, answer: Json) -> Created:
        return Created(answer["PolicyARN"], {"Arn": answer["PolicyARN"], "PolicyName": properties["PolicyName"]})

    def deletion(self, identity: str, properties: Json) -> Json:
        request = self.request(properties)
        return {key: request[key] for key in ("PolicyName", *SCALING_TARGET)}


class CloudWatch(Kind):
    """A type of CloudWatch, whose API deletes by a list of names."""

    def deletion(self, identity: str, properties: Json) -> Json:
        return {f"{self.name}s": [identity]}


# --- IAM ---------------------------------------------------------------------------------------------------------
class ByIdentity(Kind):
    """A type whose Ref is a value of the response, which also deletes it.

    `answer` is the path to that value in the response, and `argument` its name in the request that deletes it.
    """

    def __init__(self, service: str, put: str, delete: str, answer: str, argument: str, fixed: str) -> None:
        super().__init__(service, put, delete, fixed=(fixed,))
        self._answer, self._argument = answer.split("."), argument

    def request(self, properties: Json) -> Json:
        if "ClientIdList" in properties:  # the OIDC provider's API writes ID in capitals
            return {"Url": properties["Url"], "ClientIDList": properties["ClientIdList"], "ThumbprintList": []}
        return properties

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
    """AWS::IAM::Role with inline and managed policies."""

    def create(self, clients: Clients, properties: Json) -> Created:
        created = super().create(clients, without(properties, "Policies", "ManagedPolicyArns"))
        self._set_policies(clients, {}, properties)
        return created

    def created(self, properties: Json, answer: Json) -> Created:
        return Created(properties["RoleName"], {"Arn": answer["Role"]["Arn"], "RoleId": answer["Role"]["RoleId"]})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        client, role = clients("iam"), {"RoleName": identity}
        call(client, "update_assume_role_policy", {**role, "PolicyDocument": new["AssumeRolePolicyDocument"]})
        call(client, "update_role", role | {k: new[k] for k in ("Description", "MaxSessionDuration") if k in new})
        if boundary := new.get("PermissionsBoundary"):
            client.put_role_permissions_boundary(**role, PermissionsBoundary=boundary)
        elif "PermissionsBoundary" in old:
            client.delete_role_permissions_boundary(**role)
        self._set_policies(clients, old, new)
        return self.created(new, client.get_role(**role))

    def _set_policies(self, clients: Clients, old: Json, new: Json) -> None:
        client, role = clients("iam"), {"RoleName": (new or old)["RoleName"]}
        for policy in new.get("Policies", []):
            call(client, "put_role_policy", {**role, **policy})
        names = {policy["PolicyName"] for policy in new.get("Policies", [])}
        for policy in old.get("Policies", []):
            if policy["PolicyName"] not in names:
                client.delete_role_policy(**role, PolicyName=policy["PolicyName"])
        before, after = set(old.get("ManagedPolicyArns", [])), set(new.get("ManagedPolicyArns", []))
        for arn in after - before:
            client.attach_role_policy(**role, PolicyArn=arn)
        for arn in before - after:
            client.detach_role_policy(**role, PolicyArn=arn)

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        self._set_policies(clients, properties, {})
        super().delete(clients, identity, properties)


class ManagedPolicy(Kind):
    """AWS::IAM::ManagedPolicy, attached to its roles."""

    def request(self, properties: Json) -> Json:
        return without(properties, "ManagedPolicyName", "Roles") | {"PolicyName": properties["ManagedPolicyName"]}

    def created(self, properties: Json, answer: Json) -> Created:
        return Created(answer["Policy"]["Arn"], {"PolicyArn": answer["Policy"]["Arn"]})

    def create(self, clients: Clients, properties: Json) -> Created:
        created = super().create(clients, properties)
        self._attach(clients, created.identity, {}, properties)
        return created

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        client, policy = clients("iam"), {"PolicyArn": identity}
        document = {"PolicyDocument": new["PolicyDocument"], "SetAsDefault": True}
        call(client, "create_policy_version", policy | document)
        for version in client.list_policy_versions(**policy)["Versions"]:
            if not version["IsDefaultVersion"]:
                client.delete_policy_version(**policy, VersionId=version["VersionId"])
        self._attach(clients, identity, old, new)
        return Created(identity, policy)

    def _attach(self, clients: Clients, identity: str, old: Json, new: Json) -> None:
        before, after = set(old.get("Roles", [])), set(new.get("Roles", []))
        for role in after - before:
            clients("iam").attach_role_policy(RoleName=role, PolicyArn=identity)
        for role in before - after:
            clients("iam").detach_role_policy(RoleName=role, PolicyArn=identity)

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        self._attach(clients, identity, properties, {})
        clients("iam").delete_policy(PolicyArn=identity)


# --- S3, SNS, Lambda ---------------------------------------------------------------------------------------------
class Bucket(Kind):
    """AWS::S3::Bucket; each of its settings has an API of its own."""

    def create(self, clients: Clients, properties: Json) -> Created:
        client, name = clients("s3"), properties["BucketName"]
        region = client.meta.region_name
        location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=name, **location)
        return self.update(clients, name, {}, properties)

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Created:
        client, bucket = clients("s3"), {"Bucket": identity}
        for key, method in BUCKET_SETTINGS.items():
            if key in new:
                call(client, method, bucket | {key: new[key]})
        if rules := new.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration"):
            names = {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"}
            rules = [{names.get(key, key): value for key, value in rule.items()} for rule in rules]
            call(client, "put_bucket_encryption", bucket | {"ServerSideEncryptionConfiguration": {"Rules": rules}})
        if rules := new.get("LifecycleConfiguration", {}).get("Rules"):
            configuration = {"LifecycleConfiguration": {"Rules": [lifecycle_rule(rule) for rule in rules]}}
            call(client, "put_bucket_lifecycle_configuration", bucket | configuration)
        if "EventBridgeConfiguration" in new.get("NotificationConfiguration", {}):
            events: Json = {"EventBridgeConfiguration": {}}
            client.put_bucket_notification_configuration(**bucket, NotificationConfiguration=events)
        if tags := new.get("Tags"):
            client.put_bucket_tagging(**bucket, Tagging={"TagSet": tags})
        return Created(identity, {"Arn": f"arn:aws:s3:::{identity}", "DomainName": f"{identity}.s3.amazonaws.com"})

    def deletion(self, identity: str, properties: Json) -> Json:
        return {"Bucket": identity}


def lifecycle_rule(rule: Json) -> Json:
    """Return S3's lifecycle rule for CloudFormation's."""
    result: Json = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        result["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        result["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    elif "ExpiredObjectDeleteMarker" in rule:
        result["Expiration"] = {"ExpiredObjectDeleteMarker": str(rule["ExpiredObjectDeleteMarker"]).lower() == "true"}
    if "Transitions" in rule:
        transitions = rule["Transitions"]
        result["Transitions"] = [
            {"Days": int(t["TransitionInDays"]), "StorageClass": t["StorageClass"]} for t in transitions
        ]
    same = ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    return result | {key: rule[key] for key in same if key in rule}


class BucketPolicy(Kind):
    """AWS::S3::BucketPolicy."""

    def request(self, properties: Json) -> Json:
        return {"Bucket": properties["Bucket"], "Policy": properties["PolicyDocument"]}

    def created(self, properties: Json, answer: Json) -> Created:
        return Created(properties["Bucket"], {})

    def deletion(self, identity: str, properties: Json) -> Json:
        return {"Bucket": identity}


class TopicPolicy(Kind):
    """AWS::SNS::TopicPolicy, an attribute of each topic."""

    def create(self, clients: Clients, properties: Json) -> Created:
        for topic in properties["Topics"]:
            request = {"TopicArn": topic, "AttributeName": "Policy", "AttributeValue": properties["PolicyDocument"]}
            call(clients("sns"), self._put, request)
        return Created("|".join(properties["Topics"]), {})

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """Do nothing: the policy is deleted with its topic."""


class Permission(Kind):
    """AWS::Lambda::Permission, a statement of the function's policy."""

    def create(self, clients: Clients, properties: Json) -> Created:
        identity = f"{properties['FunctionName']}-{properties['Principal']}".replace(".", "-").replace(":", "-")[-100:]
        call(clients("lambda"), self._put, {"StatementId": identity, **properties})
        return Created(identity, {"Id": identity})

    def deletion(self, identity: str, properties: Json) -> Json:
        return {"FunctionName": properties["FunctionName"], "StatementId": identity}


def _autoscaling(kind: type[Kind], put: str, delete: str, *fixed: str) -> Kind:
    return kind("application-autoscaling", put, delete, "PolicyName" if "PolicyName" in fixed else "", fixed)


TYPES: dict[str, Kind] = {
    "AWS::SageMaker::Model": SageMaker("model", "ModelName"),
    "AWS::SageMaker::EndpointConfig": SageMaker("endpoint_config", "EndpointConfigName"),
    "AWS::SageMaker::Endpoint": Endpoint("endpoint", "EndpointName"),
    "AWS::SageMaker::ModelPackageGroup": ModelPackageGroup("model_package_group", "ModelPackageGroupName"),
    "AWS::CloudWatch::Alarm": CloudWatch("cloudwatch", "put_metric_alarm", "delete_alarms", "AlarmName"),
    "AWS::CloudWatch::Dashboard": CloudWatch("cloudwatch", "put_dashboard", "delete_dashboards", "DashboardName"),
    "AWS::ApplicationAutoScaling::ScalableTarget": _autoscaling(
        ScalableTarget, "register_scalable_target", "deregister_scalable_target", *SCALING_TARGET
    ),
    "AWS::ApplicationAutoScaling::ScalingPolicy": _autoscaling(
        ScalingPolicy, "put_scaling_policy", "delete_scaling_policy", "PolicyName", "ScalingTargetId"
    ),
    "AWS::IAM::OIDCProvider": ByIdentity(
        "iam",
        "create_open_id_connect_provider",
        "delete_open_id_connect_provider",
        "OpenIDConnectProviderArn",
        "OpenIDConnectProviderArn",
        "*",
    ),
    "AWS::IAM::ServiceLinkedRole": ByIdentity(
        "iam", "create_service_linked_role", "delete_service_linked_role", "Role.RoleName", "RoleName", "*"
    ),
    "AWS::IAM::Role": Role("iam", "create_role", "delete_role", "RoleName", ("RoleName", "Path")),
    "AWS::IAM::ManagedPolicy": ManagedPolicy("iam", "create_policy", "", "ManagedPolicyName"),
    "AWS::S3::Bucket": Bucket("s3", "create_bucket", "delete_bucket", "BucketName"),
    "AWS::S3::BucketPolicy": BucketPolicy("s3", "put_bucket_policy", "delete_bucket_policy", fixed=("Bucket",)),
    "AWS::SNS::TopicPolicy": TopicPolicy("sns", "set_topic_attributes", "", fixed=("Topics",)),
    "AWS::SNS::Subscription": ByIdentity("sns", "subscribe", "unsubscribe", "SubscriptionArn", "SubscriptionArn", "*"),
    "AWS::Lambda::Permission": Permission("lambda", "add_permission", "remove_permission", fixed=("*",)),
}
