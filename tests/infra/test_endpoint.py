"""Tests of endpoint.yaml: one exact model package, alarms before the endpoint, and the resources of each mode."""

import json
import re
from typing import Any

import pytest
from templates import DEV, ENDPOINT, OPS, REGION, Json, Stack, endpoint, load

from sagegate.registry.approval import SPECIFICATION

NAME = "tumour-staging"


def variant(stack: Stack) -> Json:
    (only,) = stack.resources["EndpointConfig"]["Properties"]["ProductionVariants"]
    return dict(only)


def update_policy(stack: Stack) -> Json:
    policy: Json = stack.resources["Endpoint"]["Properties"]["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    return policy


def test_the_model_is_exactly_the_package() -> None:
    model = endpoint().resources["Model"]["Properties"]
    package = f"arn:aws:sagemaker:{REGION}:{DEV}:model-package/tumour/7"
    assert model["Containers"] == [{"ModelPackageName": package, "InferenceSpecificationName": SPECIFICATION}]
    assert model["ExecutionRoleArn"] == f"arn:aws:iam::{OPS}:role/tumour-endpoint"
    assert model["EnableNetworkIsolation"] is True
    tags = {tag["Key"]: tag["Value"] for tag in model["Tags"]}
    assert tags == {
        "project": "tumour",
        "environment": "staging",
        "model-version": "7",
        "artifact-digest": "a" * 64,
    }


def test_model_and_configuration_get_new_names_and_the_endpoint_keeps_its_name() -> None:
    one, two = endpoint(), endpoint(Revision="89abcdef")
    for name, key in (("Model", "ModelName"), ("EndpointConfig", "EndpointConfigName")):
        names = [stack.resources[name]["Properties"][key] for stack in (one, two)]
        assert names == [f"{NAME}-7-0123abcd", f"{NAME}-7-89abcdef"]
    assert {s.resources["Endpoint"]["Properties"]["EndpointName"] for s in (one, two)} == {NAME}
    longest = endpoint(ProjectName="a" * 32, ModelVersion="99999")
    assert len(longest.resources["Model"]["Properties"]["ModelName"]) <= 63


def test_only_an_exact_model_version_is_accepted() -> None:
    parameters = load(ENDPOINT)["Parameters"]
    pattern = parameters["ModelPackageArn"]["AllowedPattern"]
    arn = f"arn:aws:sagemaker:{REGION}:{DEV}:model-package"
    assert re.fullmatch(pattern, f"{arn}/tumour/7")
    for other in (f"{arn}/tumour", f"{arn}/tumour/latest", f"{arn}-group/tumour", ""):
        assert not re.fullmatch(pattern, other)
    assert all("Default" not in parameters[name] for name in ("ModelPackageArn", "ArtifactDigest", "Revision"))


@pytest.mark.parametrize(
    ("traffic", "kind", "size"),
    [("canary", "CANARY", "CanarySize"), ("linear", "LINEAR", "LinearStepSize"), ("all-at-once", "ALL_AT_ONCE", None)],
)
def test_traffic_shifts_and_alarms_roll_back(traffic: str, kind: str, size: str | None) -> None:
    stack = endpoint(Traffic=traffic, TrafficPercent=20, WaitInSeconds=120)
    routing = update_policy(stack)["TrafficRoutingConfiguration"]
    expected: Json = {"Type": kind, "WaitIntervalInSeconds": 120}
    assert routing == expected | ({size: {"Type": "CAPACITY_PERCENT", "Value": 20}} if size else {})
    alarms = stack.resources["Endpoint"]["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert alarms == [{"AlarmName": f"{NAME}-{what}"} for what in ("5xx", "latency", "cpu")]


def test_alarms_are_created_before_the_endpoint() -> None:
    """The endpoint refers to the alarms by Ref. The alarms name the endpoint by text."""
    resources = load(ENDPOINT)["Resources"]
    text = str(resources["Endpoint"]["Properties"]["DeploymentConfig"])
    for alarm in ("ErrorAlarm", "LatencyAlarm", "CpuAlarm"):
        assert f"{{'Ref': '{alarm}'}}" in text
        assert "'Endpoint'" not in str(resources[alarm]) and "DependsOn" not in resources[alarm]


def test_alarm_thresholds_are_in_cloudwatch_units() -> None:
    stack = endpoint(Max5xxErrors=3, MaxLatencyInMilliseconds="250", MaxCpuPercent=80, InstanceVcpus=4)
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    assert alarms["ErrorAlarm"]["Threshold"] == 3 and alarms["ErrorAlarm"]["MetricName"] == "Invocation5XXErrors"
    assert float(alarms["LatencyAlarm"]["Threshold"]) == 250_000.0  # ModelLatency is in microseconds
    assert alarms["LatencyAlarm"]["ExtendedStatistic"] == "p99"
    assert alarms["CpuAlarm"]["Metrics"][0]["Expression"] == "sum / 4"  # CPUUtilization is 100 for each vCPU
    dimensions = [{"Name": "EndpointName", "Value": NAME}, {"Name": "VariantName", "Value": "AllTraffic"}]
    assert alarms["ErrorAlarm"]["Dimensions"] == alarms["LatencyAlarm"]["Dimensions"] == dimensions
    assert alarms["CpuAlarm"]["Metrics"][1]["MetricStat"]["Metric"]["Dimensions"] == dimensions
    assert all(alarm["TreatMissingData"] == "notBreaching" for alarm in alarms.values())


def test_autoscaling_tracks_invocations_and_a_deployment_keeps_its_instances() -> None:
    stack = endpoint(MinInstanceCount=2, MaxInstanceCount=6, InvocationsPerInstance=900)
    target = stack.resources["ScalableTarget"]["Properties"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 6)
    assert target["ResourceId"] == f"endpoint/{NAME}/variant/AllTraffic"
    tracking = stack.resources["ScalingPolicy"]["Properties"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 900
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    assert tracking["PredefinedMetricSpecification"] == metric
    assert stack.resources["Endpoint"]["Properties"]["RetainAllVariantProperties"] is True
    retained = stack.resources["Endpoint"]["Properties"]["ExcludeRetainedVariantProperties"]
    assert {"VariantPropertyType": "DesiredInstanceCount"} not in retained
    assert load(ENDPOINT)["Resources"]["ScalableTarget"]["DependsOn"] == "Endpoint"


MODES: dict[str, dict[str, Any]] = {
    "real-time": {"capture": True, "instances": True, "scales": True, "endpoint": True},
    "serverless": {"capture": False, "instances": False, "scales": False, "endpoint": True},
    "asynchronous": {"capture": False, "instances": True, "scales": False, "endpoint": True},
    "batch": {"capture": False, "instances": False, "scales": False, "endpoint": False},
}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_the_resources_that_it_supports(mode: str) -> None:
    stack = endpoint(Mode=mode, SubnetIds="subnet-1", SecurityGroupIds="sg-1", CapturePercent=50)
    expected = MODES[mode]
    assert ("Endpoint" in stack.resources) == expected["endpoint"] == ("Dashboard" in stack.resources)
    assert ("ScalingPolicy" in stack.resources) == expected["scales"]
    model = stack.resources["Model"]["Properties"]
    assert ("VpcConfig" in model) == (mode != "serverless") == model["EnableNetworkIsolation"]
    if not expected["endpoint"]:
        assert list(stack.resources) == ["Model"]
        return
    config = stack.resources["EndpointConfig"]["Properties"]
    assert ("DataCaptureConfig" in config) == expected["capture"]
    assert ("AsyncInferenceConfig" in config) == (mode == "asynchronous")
    assert ("InstanceType" in variant(stack)) == expected["instances"] == ("ServerlessConfig" not in variant(stack))
    assert ("CpuAlarm" in stack.resources) == expected["instances"]
    shifts = update_policy(stack)["TrafficRoutingConfiguration"]["Type"]
    assert shifts == ("CANARY" if expected["instances"] else "ALL_AT_ONCE")
    assert variant(stack)["VariantName"] == "AllTraffic"


def test_data_capture_goes_to_the_bucket_of_the_account() -> None:
    capture = endpoint(CapturePercent=25).resources["EndpointConfig"]["Properties"]["DataCaptureConfig"]
    assert capture["DestinationS3Uri"] == f"s3://tumour-{OPS}-{REGION}/tumour/capture/staging"
    assert capture["InitialSamplingPercentage"] == 25 and capture["EnableCapture"] is True
    assert "DataCaptureConfig" not in endpoint(CapturePercent=0).resources["EndpointConfig"]["Properties"]


def test_parameters_have_the_limits_of_sagemaker() -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_TrafficRoutingConfig.html"""
    parameters = load(ENDPOINT)["Parameters"]
    assert (parameters["TrafficPercent"]["MinValue"], parameters["TrafficPercent"]["MaxValue"]) == (10, 50)
    assert 0 == parameters["WaitInSeconds"]["MinValue"] < parameters["WaitInSeconds"]["MaxValue"] <= 3600
    # The longest linear shift must fit into the time of an update.
    longest = 100 / parameters["TrafficPercent"]["MinValue"] * parameters["WaitInSeconds"]["MaxValue"]
    assert longest < update_policy(endpoint())["MaximumExecutionTimeoutInSeconds"] <= 28_800


def test_the_dashboard_is_valid_json() -> None:
    body = json.loads(endpoint().resources["Dashboard"]["Properties"]["DashboardBody"])
    assert len(body["widgets"]) == 4
