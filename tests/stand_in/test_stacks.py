"""CloudFormation of the stand-in: stacks progress, deploy endpoints for real, roll back, and refuse as AWS does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stand_in.hosting_lab import ROLE, Lab, blue_green, until
from stand_in.server import StandIn

TEMPLATE = """
Description: An endpoint
Parameters:
  Name: {Type: String}
  Artifact: {Type: String}
  Revision: {Type: String}
  Mode: {Type: String, Default: real-time, AllowedValues: [real-time, serverless]}
  Count: {Type: Number, Default: 1, MinValue: 1}
  Secret: {Type: String, NoEcho: true, Default: hidden}
  Extra: {Type: String, Default: "no"}
Mappings:
  Sizes: {small: {type: ml.m5.large}}
Conditions:
  Serverless: !Equals [!Ref Mode, serverless]
  Always: !Not [!Equals [!Ref Mode, other]]
  WithExtra: !And [!Equals [!Ref Extra, "yes"], !Not [!Condition Serverless]]
Resources:
  Model:
    Type: AWS::SageMaker::Model
    Properties:
      ModelName: !Sub "${Name}-${Revision}"
      ExecutionRoleArn: ROLE
      PrimaryContainer: {Image: image, ModelDataUrl: !Ref Artifact}
  Config:
    Type: AWS::SageMaker::EndpointConfig
    Properties:
      EndpointConfigName: !Join ["-", [!Ref Name, !Ref Revision]]
      ProductionVariants:
        - VariantName: AllTraffic
          ModelName: !GetAtt Model.ModelName
          InitialInstanceCount: !If [Serverless, !Ref AWS::NoValue, !Ref Count]
          InstanceType: !If [Serverless, !Ref AWS::NoValue, !FindInMap [Sizes, small, type]]
          ServerlessConfig: !If [Serverless, {MemorySizeInMB: 2048, MaxConcurrency: 5}, !Ref AWS::NoValue]
  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmName: !Sub "${Name}-5xx"
      Namespace: AWS/SageMaker
      MetricName: Invocation5XXErrors
      Dimensions: [{Name: EndpointName, Value: !Ref Name}, {Name: VariantName, Value: AllTraffic}]
      Statistic: Sum
      Period: 60
      EvaluationPeriods: 1
      Threshold: "1"
      ComparisonOperator: GreaterThanOrEqualToThreshold
      TreatMissingData: notBreaching
  Endpoint:
    Type: AWS::SageMaker::Endpoint
    DependsOn: Alarm
    Properties:
      EndpointName: !Ref Name
      EndpointConfigName: !GetAtt Config.EndpointConfigName
      DeploymentConfig: DEPLOYMENT
  Target:
    Type: AWS::ApplicationAutoScaling::ScalableTarget
    Properties:
      ServiceNamespace: sagemaker
      ScalableDimension: sagemaker:variant:DesiredInstanceCount
      ResourceId: !Sub "endpoint/${Endpoint.EndpointName}/variant/AllTraffic"
      MinCapacity: !Ref Count
      MaxCapacity: 4
  Scaling:
    Type: AWS::ApplicationAutoScaling::ScalingPolicy
    Properties:
      PolicyName: !Sub "${Name}-invocations"
      PolicyType: TargetTrackingScaling
      ScalingTargetId: !Ref Target
      TargetTrackingScalingPolicyConfiguration:
        TargetValue: 1000
        PredefinedMetricSpecification: {PredefinedMetricType: SageMakerVariantInvocationsPerInstance}
  Dashboard:
    Type: AWS::CloudWatch::Dashboard
    Condition: Always
    Properties: {DashboardName: !Ref Name, DashboardBody: !Sub '{"widgets": []}'}
  Topic:
    Type: AWS::SNS::Topic
    Condition: WithExtra
    Properties: {TopicName: !Sub "${AWS::StackName}-extra"}
Outputs:
  Endpoint: {Value: !GetAtt Endpoint.EndpointName}
  Config: {Value: !GetAtt Config.EndpointConfigName}
  Topic: {Condition: WithExtra, Value: !Ref Topic}
"""


@pytest.fixture(scope="module")
def lab(running: StandIn) -> Lab:
    return Lab(running)


class Deployment:
    """One endpoint's stack."""

    def __init__(self, lab: Lab, name: str, wait: int = 60) -> None:
        self.lab, self.name = lab, name
        config = blue_green("CANARY", wait, 20, AutoRollbackConfiguration={"Alarms": [{"AlarmName": f"{name}-5xx"}]})
        self.template = TEMPLATE.replace("ROLE", ROLE).replace("DEPLOYMENT", json.dumps(config))

    def request(self, artifact: str, revision: str, **more: str) -> dict[str, Any]:
        values = {"Name": self.name, "Artifact": artifact, "Revision": revision} | more
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
        return {"StackName": self.name, "TemplateBody": self.template, "Parameters": given}

    def deploy(self, kind: str, *arguments: str, **more: str) -> dict[str, Any]:
        """By change set; the stack, once nothing moves any more."""
        formation, name = self.lab.formation, f"to-{arguments[1]}"
        formation.create_change_set(ChangeSetName=name, ChangeSetType=kind, **self.request(*arguments, **more))
        waiter = formation.get_waiter("change_set_create_complete")
        waiter.wait(StackName=self.name, ChangeSetName=name, WaiterConfig={"Delay": 1})
        formation.execute_change_set(StackName=self.name, ChangeSetName=name)
        return self.settled()

    def stack(self) -> dict[str, Any]:
        return dict(self.lab.formation.describe_stacks(StackName=self.name)["Stacks"][0])

    def settled(self) -> dict[str, Any]:
        until(lambda: not self.stack()["StackStatus"].endswith("IN_PROGRESS"), 60)
        return self.stack()

    def events(self) -> list[tuple[str, str, str]]:
        found = self.lab.formation.describe_stack_events(StackName=self.name)["StackEvents"]
        rows = [(e["LogicalResourceId"], e["ResourceStatus"], e.get("ResourceStatusReason", "")) for e in found]
        return rows[::-1]


def outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}


def test_a_stack_is_made_updated_rolled_back_and_deleted(lab: Lab) -> None:
    live = Deployment(lab, "live")
    stack = live.deploy("CREATE", lab.artifact("live-1"), "1")
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert outputs(stack) == {"Endpoint": "live", "Config": "live-1"}
    values = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    assert values["Secret"] == "****" and values["Count"] == "1"
    states = live.events()
    assert states[0][:2] == ("live", "REVIEW_IN_PROGRESS") and states[-1][:2] == ("live", "CREATE_COMPLETE")
    order = [logical for logical, status, _ in states if status == "CREATE_COMPLETE"]
    assert order.index("Model") < order.index("Config") < order.index("Endpoint") < order.index("Target")
    assert order.index("Alarm") < order.index("Endpoint")
    resources = lab.formation.describe_stack_resources(StackName="live")["StackResources"]
    assert {r["LogicalResourceId"] for r in resources} == {
        "Model", "Config", "Alarm", "Endpoint", "Target", "Scaling", "Dashboard",
    }  # fmt: skip
    assert all(r["ResourceStatus"] == "CREATE_COMPLETE" for r in resources)
    scaling = lab.client("application-autoscaling")
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"][0]["MaxCapacity"] == 4
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert lab.cloudwatch.get_dashboard(DashboardName="live")["DashboardBody"] == '{"widgets": []}'

    with lab.hammer("live") as answers:
        until(lambda: answers["live-1"] > 10)
        stack = live.deploy("UPDATE", lab.artifact("live-2"), "2")
        assert stack["StackStatus"] == "UPDATE_COMPLETE" and outputs(stack)["Config"] == "live-2"
        until(lambda: answers["live-2"] > 10)
    assert set(answers) == {"live-1", "live-2"}
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        lab.sagemaker.describe_endpoint_config(EndpointConfigName="live-1")
    seen = [row[:2] for row in live.events()]
    assert seen.index(("live", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")) < seen.index(("Config", "DELETE_COMPLETE"))
    assert seen.index(("Endpoint", "UPDATE_COMPLETE")) < seen.index(("Config", "DELETE_IN_PROGRESS"))

    with lab.hammer("live") as answers:
        stack = live.deploy("UPDATE", lab.artifact("live-3", predict="raise KeyError(1)"), "3")
        assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE" and outputs(stack)["Config"] == "live-2"
        goal = answers["live-2"] + 30
        until(lambda: answers["live-2"] > goal)
    assert set(answers) == {"live-2", "ModelError"}
    failed = [row for row in live.events() if row[1] == "UPDATE_FAILED"]
    assert [row[0] for row in failed] == ["Endpoint"] and "live-5xx" in failed[0][2]
    reasons = [row[2] for row in live.events() if row[1] == "UPDATE_ROLLBACK_IN_PROGRESS"]
    assert reasons == ["The following resource(s) failed to update: [Endpoint]. "]
    with pytest.raises(ClientError, match="Could not find model"):
        lab.sagemaker.describe_model(ModelName="live-3")
    assert lab.ask("live") == "live-2:1,2"

    lab.formation.delete_stack(StackName="live")
    lab.formation.get_waiter("stack_delete_complete").wait(StackName="live", WaiterConfig={"Delay": 1})
    with pytest.raises(ClientError, match="Could not find endpoint"):
        lab.sagemaker.describe_endpoint(EndpointName="live")
    with pytest.raises(ClientError, match="Could not find model"):
        lab.sagemaker.describe_model(ModelName="live-2")
    with pytest.raises(ClientError, match="does not exist"):
        live.stack()
    assert not lab.cloudwatch.describe_alarms(AlarmNames=["live-5xx"])["MetricAlarms"]


def test_a_stack_that_cannot_be_made_is_rolled_back(lab: Lab) -> None:
    lost = Deployment(lab, "lost")
    stack = lost.deploy("CREATE", lab.artifact("lost", load="raise SystemExit(1)"), "1")
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    failed = [row for row in lost.events() if row[1] == "CREATE_FAILED"]
    assert failed[0][0] == "Endpoint" and "did not pass the ping health check" in failed[0][2]
    for describe in ("describe_model", "describe_endpoint_config", "describe_endpoint"):
        key = {"describe_model": "ModelName", "describe_endpoint": "EndpointName"}.get(describe, "EndpointConfigName")
        with pytest.raises(ClientError, match="Could not find"):
            getattr(lab.sagemaker, describe)(**{key: "lost" if key == "EndpointName" else "lost-1"})
    with pytest.raises(ClientError, match="ROLLBACK_COMPLETE state and can not be updated"):
        lab.formation.update_stack(**lost.request("s3://models/x", "2"))


def test_change_sets_say_what_would_change_and_refuse_nothing(lab: Lab) -> None:
    calm = Deployment(lab, "calm")
    artifact = lab.artifact("calm")
    request = calm.request(artifact, "1", Mode="serverless", Extra="yes")
    lab.formation.create_stack(**request)
    assert calm.stack()["StackStatus"] == "CREATE_IN_PROGRESS"
    with pytest.raises(ClientError, match="CREATE_IN_PROGRESS state and can not be updated"):
        lab.formation.update_stack(**calm.request(artifact, "2"))
    with pytest.raises(ClientError, match="already exists"):
        lab.formation.create_stack(**request)
    assert calm.settled()["StackStatus"] == "CREATE_COMPLETE"
    variant = lab.sagemaker.describe_endpoint_config(EndpointConfigName="calm-1")["ProductionVariants"][0]
    assert variant["ServerlessConfig"]["MaxConcurrency"] == 5 and "InstanceType" not in variant

    lab.formation.create_change_set(ChangeSetName="same", **request)
    found = lab.formation.describe_change_set(ChangeSetName="same", StackName="calm")
    assert (found["Status"], found["ExecutionStatus"], found["Changes"]) == ("FAILED", "UNAVAILABLE", [])
    assert found["StatusReason"] == (
        "The submitted information didn't contain changes. Submit different information to create a change set."
    )
    with pytest.raises(ClientError, match="No updates are to be performed"):
        lab.formation.update_stack(**request)
    with pytest.raises(ClientError, match="cannot be executed"):
        lab.formation.execute_change_set(ChangeSetName="same", StackName="calm")
    lab.formation.delete_change_set(ChangeSetName="same", StackName="calm")

    request = calm.request(artifact, "2", Mode="serverless", Count="2")
    lab.formation.create_change_set(ChangeSetName="next", **request)
    found = lab.formation.describe_change_set(ChangeSetName="next", StackName="calm")["Changes"]
    changes = {c["ResourceChange"]["LogicalResourceId"]: c["ResourceChange"] for c in found}
    assert {name: change.get("Replacement") for name, change in changes.items()} == {
        "Model": "True", "Config": "True", "Endpoint": "False", "Target": "False",
    }  # fmt: skip
    with pytest.raises(ClientError, match="does not exist"):
        lab.formation.describe_change_set(ChangeSetName="next", StackName="another")
    assert lab.sagemaker.describe_endpoint(EndpointName="calm")["EndpointConfigName"] == "calm-1"

    with pytest.raises(ClientError, match="must be one of AllowedValues"):
        lab.formation.update_stack(**calm.request(artifact, "2", Mode="batch"))
    with pytest.raises(ClientError, match="do not exist in the template"):
        lab.formation.update_stack(**calm.request(artifact, "2", Other="1"))
    request["Parameters"] = request["Parameters"][:1]
    with pytest.raises(ClientError, match="must have values"):
        lab.formation.update_stack(**request)


def test_a_named_resource_cannot_be_replaced_by_one_of_the_same_name(lab: Lab) -> None:
    same = Deployment(lab, "same")
    same.deploy("CREATE", lab.artifact("same"), "1")
    lab.formation.update_stack(**same.request(lab.artifact("same-other"), "1"))
    assert same.settled()["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    failed = [row for row in same.events() if row[1] == "UPDATE_FAILED"]
    assert failed[0][0] == "Model" and "Rename same-1 and update the stack again." in failed[0][2]
    assert lab.ask("same") == "same:1,2"
