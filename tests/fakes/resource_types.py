"""CloudFormation's resource types: each makes, changes and deletes by its service's own API, as CloudFormation does.

The requests go over HTTP with the caller's credentials, so botocore validates them and, where moto enforces IAM, a
role without the permission fails the resource. Types that are not here are made by moto's own models if it has them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sagegate.files import Json

Clients = Callable[[str], Any]  # a service's name -> a boto3 client


class Failed(Exception):
    """The service refused, or the resource never settled: the reason for the stack's event."""


@dataclass(frozen=True)
class Made:
    """What creating gives: Ref's value and GetAtt's."""

    identity: str
    attributes: Json


def coerce(shape: Any, value: Any) -> Any:
    """CloudFormation's strings as the types that the API's shape has."""
    if shape.type_name == "structure" and isinstance(value, dict):
        return {k: coerce(shape.members[k], v) if k in shape.members else v for k, v in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [coerce(shape.member, item) for item in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {k: coerce(shape.value, item) for k, item in value.items()}
    if isinstance(value, str) and shape.type_name in ("integer", "long"):
        return int(value)
    if isinstance(value, str) and shape.type_name in ("double", "float"):
        return float(value)
    if isinstance(value, str) and shape.type_name == "boolean":
        return value.lower() == "true"
    if shape.type_name == "string" and isinstance(value, dict):
        return json.dumps(value)
    if shape.type_name == "string" and isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


def call(client: Any, method: str, request: Json) -> Json:
    """One request, its values coerced; raises what boto3 raises."""
    operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    answer: Json = getattr(client, method)(**coerce(operation.input_shape, request))
    return answer


class Kind:
    """A resource type whose API puts: creating and updating are the same request."""

    def __init__(self, service: str, put: str, delete: str, name: str, fixed: tuple[str, ...] = ()) -> None:
        self.service, self.put, self.remove, self.name = service, put, delete, name
        self.fixed = fixed or ((name,) if name else ())  # what cannot be changed in place; "*": nothing can

    def request(self, properties: Json) -> Json:
        """The API's request."""
        return properties

    def made(self, properties: Json, answer: Json) -> Made:
        """What Ref and GetAtt give."""
        arn = next((value for key, value in answer.items() if key.lower().endswith("arn")), "")
        return Made(properties[self.name], {"Arn": arn, self.name: properties[self.name]})

    def replaces(self, changed: set[str]) -> bool:
        """Whether a change of these properties needs a new resource."""
        return bool(changed - {"Tags"} if "*" in self.fixed else changed & set(self.fixed))

    def create(self, clients: Clients, properties: Json) -> Made:
        """Make it."""
        return self.made(properties, call(clients(self.service), self.put, self.request(properties)))

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """Change it in place."""
        return self.create(clients, new)

    def deletion(self, identity: str, properties: Json) -> Json:
        """The request that deletes it."""
        return {self.name: properties[self.name]}

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """Delete it."""
        call(clients(self.service), self.remove, self.deletion(identity, properties))


class SageMaker(Kind):
    """Ref gives the ARN, GetAtt the name; nothing but tags changes in place."""

    def __init__(self, noun: str, name: str) -> None:
        super().__init__("sagemaker", f"create_{noun}", f"delete_{noun}", name, ("*",))

    def made(self, properties: Json, answer: Json) -> Made:
        """What Ref and GetAtt give."""
        arn = next(value for key, value in answer.items() if key.endswith("Arn"))
        return Made(arn, {self.name: properties[self.name], f"{self.name.removesuffix('Name')}Arn": arn})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """Only tags."""
        clients("sagemaker").add_tags(ResourceArn=identity, Tags=new.get("Tags", []))
        return self.made(new, {"Arn": identity})


class Group(SageMaker):
    """AWS::SageMaker::ModelPackageGroup; its policy is a call of its own."""

    def create(self, clients: Clients, properties: Json) -> Made:
        """The group, then its policy."""
        kept = {k: v for k, v in properties.items() if k != "ModelPackageGroupPolicy"}
        made = super().create(clients, kept)
        self._policy(clients, properties)
        return made

    def replaces(self, changed: set[str]) -> bool:
        """The policy changes in place."""
        return bool(changed - {"Tags", "ModelPackageGroupPolicy"})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """Tags and the policy."""
        self._policy(clients, new)
        return super().update(clients, identity, old, new)

    def _policy(self, clients: Clients, properties: Json) -> None:
        if policy := properties.get("ModelPackageGroupPolicy"):
            name = properties["ModelPackageGroupName"]
            request = {"ModelPackageGroupName": name, "ResourcePolicy": policy}
            call(clients("sagemaker"), "put_model_package_group_policy", request)


class EndpointKind(SageMaker):
    """AWS::SageMaker::Endpoint: settled when it is InService with the configuration that was asked for."""

    def replaces(self, changed: set[str]) -> bool:
        """Its name only."""
        return "EndpointName" in changed

    def create(self, clients: Clients, properties: Json) -> Made:
        """CreateEndpoint, and wait."""
        dropped = ("RetainAllVariantProperties", "ExcludeRetainedVariantProperties", "RetainDeploymentConfig")
        made = super().create(clients, {k: v for k, v in properties.items() if k not in dropped})
        try:
            self._settle(clients, properties)
        except Failed:
            self.delete(clients, made.identity, properties)
            raise
        return made

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """UpdateEndpoint, and wait; nothing if it has that configuration already, as after a roll-back."""
        found = clients("sagemaker").describe_endpoint(EndpointName=new["EndpointName"])
        if found["EndpointConfigName"] != new["EndpointConfigName"]:
            call(clients("sagemaker"), "update_endpoint", {k: v for k, v in new.items() if k != "Tags"})
            self._settle(clients, new)
        return self.made(new, {"EndpointArn": identity})

    def _settle(self, clients: Clients, properties: Json) -> None:
        name = properties["EndpointName"]
        while True:
            found = clients("sagemaker").describe_endpoint(EndpointName=name)
            if found["EndpointStatus"] in ("InService", "Failed"):
                break
            time.sleep(0.05)
        if found["EndpointStatus"] == "Failed" or found["EndpointConfigName"] != properties["EndpointConfigName"]:
            raise Failed(found.get("FailureReason", "the endpoint has another configuration"))

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """DeleteEndpoint, and wait until it is gone."""
        client = clients("sagemaker")
        client.delete_endpoint(EndpointName=properties["EndpointName"])
        try:
            while True:
                client.describe_endpoint(EndpointName=properties["EndpointName"])
                time.sleep(0.05)
        except client.exceptions.ClientError as error:
            if "Could not find endpoint" not in str(error):
                raise


class Target(Kind):
    """AWS::ApplicationAutoScaling::ScalableTarget."""

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the resource, dimension and namespace."""
        keys = ("ResourceId", "ScalableDimension", "ServiceNamespace")
        return Made("|".join(properties[key] for key in keys), {"Id": "|".join(properties[key] for key in keys)})

    def deletion(self, identity: str, properties: Json) -> Json:
        """Its three keys."""
        return dict(zip(("ResourceId", "ScalableDimension", "ServiceNamespace"), identity.split("|"), strict=True))


class Policy(Kind):
    """AWS::ApplicationAutoScaling::ScalingPolicy; its target by ScalingTargetId or by the three keys."""

    def request(self, properties: Json) -> Json:
        """With the target's three keys."""
        request = {k: v for k, v in properties.items() if k != "ScalingTargetId"}
        if target := properties.get("ScalingTargetId"):
            keys = ("ResourceId", "ScalableDimension", "ServiceNamespace")
            request |= dict(zip(keys, target.split("|"), strict=True))
        return request

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the ARN."""
        arn = answer["PolicyARN"]
        return Made(arn, {"Arn": arn, "PolicyName": properties["PolicyName"]})

    def deletion(self, identity: str, properties: Json) -> Json:
        """Name and target."""
        request = self.request(properties)
        return {k: request[k] for k in ("PolicyName", "ResourceId", "ScalableDimension", "ServiceNamespace")}


class Alarm(Kind):
    """AWS::CloudWatch::Alarm."""

    def made(self, properties: Json, answer: Json) -> Made:
        """Its ARN is found by asking."""
        return Made(properties["AlarmName"], {"Arn": ""})

    def create(self, clients: Clients, properties: Json) -> Made:
        """Put it."""
        made = super().create(clients, properties)
        found = clients("cloudwatch").describe_alarms(AlarmNames=[made.identity])["MetricAlarms"]
        return Made(made.identity, {"Arn": found[0]["AlarmArn"]})

    def deletion(self, identity: str, properties: Json) -> Json:
        """By name."""
        return {"AlarmNames": [identity]}


class Dashboard(Kind):
    """AWS::CloudWatch::Dashboard."""

    def deletion(self, identity: str, properties: Json) -> Json:
        """By name."""
        return {"DashboardNames": [identity]}


TYPES: dict[str, Kind] = {
    "AWS::SageMaker::Model": SageMaker("model", "ModelName"),
    "AWS::SageMaker::EndpointConfig": SageMaker("endpoint_config", "EndpointConfigName"),
    "AWS::SageMaker::Endpoint": EndpointKind("endpoint", "EndpointName"),
    "AWS::SageMaker::ModelPackageGroup": Group("model_package_group", "ModelPackageGroupName"),
    "AWS::CloudWatch::Alarm": Alarm("cloudwatch", "put_metric_alarm", "delete_alarms", "AlarmName"),
    "AWS::CloudWatch::Dashboard": Dashboard("cloudwatch", "put_dashboard", "delete_dashboards", "DashboardName"),
    "AWS::ApplicationAutoScaling::ScalableTarget": Target(
        "application-autoscaling", "register_scalable_target", "deregister_scalable_target", "",
        ("ResourceId", "ScalableDimension", "ServiceNamespace"),
    ),
    "AWS::ApplicationAutoScaling::ScalingPolicy": Policy(
        "application-autoscaling", "put_scaling_policy", "delete_scaling_policy", "PolicyName",
        ("PolicyName", "ScalingTargetId", "ResourceId", "ScalableDimension", "ServiceNamespace"),
    ),
}  # fmt: skip
