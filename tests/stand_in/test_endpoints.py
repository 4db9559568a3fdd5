"""Endpoints of the stand-in serve, change over without a failed request, and roll back when an alarm rings."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from stand_in.hosting_lab import ACCOUNT, BUCKET, ROLE, Lab, blue_green, until
from stand_in.server import StandIn


@pytest.fixture(scope="module")
def lab(running: StandIn) -> Lab:
    return Lab(running)


def refused(caught: pytest.ExceptionInfo[ClientError]) -> str:
    """A refusal's code and message."""
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


def test_an_endpoint_comes_into_service_answers_and_goes(lab: Lab) -> None:
    lab.config("simple", lab.artifact("simple", load="time.sleep(1); return 1"))
    lab.sagemaker.create_endpoint(EndpointName="simple", EndpointConfigName="simple")
    assert lab.sagemaker.describe_endpoint(EndpointName="simple")["EndpointStatus"] == "Creating"
    with pytest.raises(ClientError) as caught:
        lab.ask("simple")
    assert refused(caught) == f"ValidationError: Endpoint simple of account {ACCOUNT} not found."
    waiter = lab.sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="simple", WaiterConfig={"Delay": 1})
    assert lab.ask("simple", "3,4") == "simple:3,4"
    found = lab.sagemaker.describe_endpoint(EndpointName="simple")
    assert found["EndpointConfigName"] == "simple"
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    lab.sagemaker.delete_endpoint(EndpointName="simple")
    lab.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="simple", WaiterConfig={"Delay": 1})
    with pytest.raises(ClientError, match="not found"):
        lab.ask("simple")


def test_a_container_that_never_answers_ping_fails_the_endpoint(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.config("broken", lab.artifact("broken", load="raise RuntimeError('no such file')"))
    lab.sagemaker.create_endpoint(EndpointName="broken", EndpointConfigName="broken")
    found = lab.settled("broken")
    assert found["EndpointStatus"] == "Failed"
    assert "AllTraffic did not pass the ping health check" in found["FailureReason"]
    logs = lab.client("logs")
    group = "/aws/sagemaker/Endpoints/broken"
    stream = logs.describe_log_streams(logGroupName=group)["logStreams"][0]["logStreamName"]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
    assert "RuntimeError: no such file" in [event["message"] for event in events]
    monkeypatch.setenv("STAND_IN_PING_SECONDS", "1")
    lab.config("slow", lab.artifact("slow", load="time.sleep(60)"))
    lab.sagemaker.create_endpoint(EndpointName="slow", EndpointConfigName="slow")
    assert lab.settled("slow")["EndpointStatus"] == "Failed"
    lab.config("absent", f"s3://{BUCKET}/absent.tar.gz")
    lab.sagemaker.create_endpoint(EndpointName="absent", EndpointConfigName="absent")
    assert "Failed to download model data" in lab.settled("absent")["FailureReason"]


def test_only_an_approved_package_becomes_a_model(lab: Lab) -> None:
    lab.sagemaker.create_model_package_group(ModelPackageGroupName="group")
    container = {"Image": "image", "ModelDataUrl": lab.artifact("package")}
    inference = {"Containers": [container], "SupportedContentTypes": ["text/csv"]}
    inference |= {"SupportedResponseMIMETypes": ["text/csv"]}
    arn = lab.sagemaker.create_model_package(
        ModelPackageGroupName="group", InferenceSpecification=inference, ModelApprovalStatus="PendingManualApproval"
    )["ModelPackageArn"]
    request = {"ModelName": "packaged", "ExecutionRoleArn": ROLE, "Containers": [{"ModelPackageName": arn}]}
    with pytest.raises(ClientError, match="PendingManualApproval") as caught:
        lab.sagemaker.create_model(**request)
    assert refused(caught).startswith("ValidationException")
    lab.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    lab.sagemaker.create_model(**request)
    variant = {"VariantName": "AllTraffic", "ModelName": "packaged", "InstanceType": "ml.m5.large"}
    variants = [variant | {"InitialInstanceCount": 1}]
    lab.sagemaker.create_endpoint_config(EndpointConfigName="packaged", ProductionVariants=variants)
    lab.endpoint("packaged", "packaged")
    assert lab.ask("packaged") == "package:1,2"


def test_what_sagemaker_refuses_is_refused(lab: Lab) -> None:
    lab.config("taken", lab.artifact("taken"))
    container = {"Image": "image", "ModelDataUrl": "s3://a/b"}
    with pytest.raises(ClientError, match='Cannot create already existing model "arn'):
        lab.sagemaker.create_model(ModelName="taken", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variants = [{"VariantName": "a", "ModelName": "taken", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}]
    with pytest.raises(ClientError, match="Cannot create already existing endpoint configuration"):
        lab.sagemaker.create_endpoint_config(EndpointConfigName="taken", ProductionVariants=variants)
    variants[0]["InstanceType"] = "ml.unknown"
    with pytest.raises(ClientError, match=r"ml\.unknown"):
        lab.sagemaker.create_endpoint_config(EndpointConfigName="other", ProductionVariants=variants)
    with pytest.raises(ClientError, match="Could not find endpoint"):
        lab.sagemaker.update_endpoint(EndpointName="absent-one", EndpointConfigName="taken")
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        lab.sagemaker.create_endpoint(EndpointName="taken", EndpointConfigName="absent-one")
    lab.sagemaker.create_endpoint(EndpointName="taken", EndpointConfigName="taken")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        lab.sagemaker.update_endpoint(EndpointName="taken", EndpointConfigName="taken")
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        lab.sagemaker.create_endpoint(EndpointName="taken", EndpointConfigName="taken")
    lab.settled("taken")
    config = blue_green("CANARY", size=60)
    with pytest.raises(ClientError, match="less than or equal to 50%"):
        lab.sagemaker.update_endpoint(EndpointName="taken", EndpointConfigName="taken", DeploymentConfig=config)
    config = blue_green(AutoRollbackConfiguration={"Alarms": [{"AlarmName": "no-such-alarm"}]})
    with pytest.raises(ClientError, match="no-such-alarm"):
        lab.sagemaker.update_endpoint(EndpointName="taken", EndpointConfigName="taken", DeploymentConfig=config)


BAD_INPUT = "\n    if body == b'4': raise ValueError('bad row')\n    return body"


def test_a_container_s_error_is_a_model_error_with_its_status_and_message(lab: Lab) -> None:
    lab.config("errors", lab.artifact("errors", predict="raise ValueError('bad row')", read=BAD_INPUT))
    lab.endpoint("errors", "errors")
    for body, status, side in (("4", 400, "client"), ("5", 500, "server")):
        with pytest.raises(ClientError) as caught:
            lab.ask("errors", body)
        answer = caught.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
        assert answer["OriginalStatusCode"] == status and "bad row" in answer["OriginalMessage"]
        assert refused(caught).startswith(f"ModelError: Received {side} error ({status}) from primary with message")


def test_a_body_may_be_any_bytes_and_headers_pass(lab: Lab) -> None:
    lab.config("bytes", lab.artifact("bytes", predict="return body.hex()"))
    lab.endpoint("bytes", "bytes")
    answer = lab.runtime.invoke_endpoint(EndpointName="bytes", Body=b"\xff\x00", ContentType="application/x-npy")
    assert answer["Body"].read() == b"bytes:ff00"
    assert answer["ContentType"] == "text/csv" and answer["InvokedProductionVariant"] == "AllTraffic"


def test_a_serverless_endpoint_serves(lab: Lab) -> None:
    serverless = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}
    lab.config("serverless", lab.artifact("serverless"), serverless)
    lab.endpoint("serverless", "serverless")
    assert lab.ask("serverless") == "serverless:1,2"


def test_an_asynchronous_endpoint_answers_in_s3(lab: Lab) -> None:
    places = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failed"}
    predict = "return body.decode() if body != b'bad' else 1 / 0"
    lab.config("later", lab.artifact("later", predict), AsyncInferenceConfig={"OutputConfig": places})
    lab.endpoint("later", "later")
    with pytest.raises(ClientError, match="asynchronous"):
        lab.ask("later")

    def ask(body: str) -> tuple[str, str]:
        lab.s3.put_object(Bucket=BUCKET, Key="in/rows.csv", Body=body)
        given = {"InputLocation": f"s3://{BUCKET}/in/rows.csv", "ContentType": "text/csv", "InferenceId": "mine"}
        told = lab.runtime.invoke_endpoint_async(EndpointName="later", **given)
        assert told["InferenceId"] == "mine"
        keys = [told[name].removeprefix(f"s3://{BUCKET}/") for name in ("OutputLocation", "FailureLocation")]
        there: list[str] = []

        def written() -> bool:
            listed = lab.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
            there[:] = [key for key in keys if key in [o["Key"] for o in listed]]
            return bool(there)

        until(written)
        return there[0], lab.s3.get_object(Bucket=BUCKET, Key=there[0])["Body"].read().decode()

    key, answer = ask("7")
    assert key.startswith("out/") and answer == "later:7"
    key, answer = ask("bad")
    assert key.startswith("failed/") and "division by zero" in answer


def test_requests_are_captured(lab: Lab) -> None:
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 50, "DestinationS3Uri": f"s3://{BUCKET}/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
    }  # fmt: skip
    lab.config("captured", lab.artifact("captured"), DataCaptureConfig=capture)
    lab.endpoint("captured", "captured")
    assert lab.sagemaker.describe_endpoint(EndpointName="captured")["DataCaptureConfig"]["CaptureStatus"] == "Started"
    for number in range(4):
        lab.ask("captured", str(number))
    keys = [o["Key"] for o in lab.s3.list_objects_v2(Bucket=BUCKET, Prefix="capture/captured/AllTraffic/")["Contents"]]
    assert len(keys) == 2
    line = json.loads(lab.s3.get_object(Bucket=BUCKET, Key=keys[0])["Body"].read())
    assert line["captureData"]["endpointInput"] == {
        "observedContentType": "text/csv", "mode": "INPUT", "data": "1", "encoding": "CSV",
    }  # fmt: skip
    assert line["captureData"]["endpointOutput"]["data"] == "captured:1"


def test_a_good_update_shifts_traffic_in_steps_and_fails_no_request(lab: Lab) -> None:
    lab.config("good-1", lab.artifact("good-1"))
    lab.config("good-2", lab.artifact("good-2"))
    lab.endpoint("good", "good-1")
    with lab.hammer("good") as answers:
        until(lambda: answers["good-1"] > 20)
        config = blue_green("CANARY", wait=200, size=25)
        lab.sagemaker.update_endpoint(EndpointName="good", EndpointConfigName="good-2", DeploymentConfig=config)
        found = lab.sagemaker.describe_endpoint(EndpointName="good")
        assert found["EndpointStatus"] == "Updating" and found["EndpointConfigName"] == "good-1"
        assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "good-2"
        until(lambda: answers["good-2"] > 0)
        before = answers.copy()
        until(lambda: answers.total() - before.total() >= 40)
        during = answers - before
        assert 0.15 < during["good-2"] / during.total() < 0.4
        found = lab.settled("good")
        assert found["EndpointConfigName"] == "good-2" and "PendingDeploymentSummary" not in found
        after = answers["good-1"]
        until(lambda: answers["good-2"] > before["good-2"] + 100)
        assert answers["good-1"] <= after + 3  # those on their way when it was looked at
    assert set(answers) == {"good-1", "good-2"}


def test_a_bad_update_rings_its_alarm_and_rolls_back(lab: Lab) -> None:
    lab.config("bad-1", lab.artifact("bad-1"))
    lab.config("bad-2", lab.artifact("bad-2", predict="raise KeyError('no such column')"))
    lab.endpoint("bad", "bad-1")
    lab.alarm("bad-5xx", "bad")
    config = blue_green("CANARY", 300, 20, AutoRollbackConfiguration={"Alarms": [{"AlarmName": "bad-5xx"}]})
    with lab.hammer("bad") as answers:
        until(lambda: lab.state("bad-5xx") == "OK")
        lab.sagemaker.update_endpoint(EndpointName="bad", EndpointConfigName="bad-2", DeploymentConfig=config)
        found = lab.settled("bad")
        assert found["EndpointStatus"] == "InService" and found["EndpointConfigName"] == "bad-1"
        assert "bad-5xx" in found["FailureReason"]
        failed = answers["ModelError"]
        assert failed  # the canary's own answers: that is what a canary costs
        goal = answers["bad-1"] + 50
        until(lambda: answers["bad-1"] > goal)
        assert answers["ModelError"] <= failed + 3
    assert set(answers) == {"bad-1", "ModelError"} and answers["ModelError"] < answers["bad-1"]
    until(lambda: lab.state("bad-5xx") == "OK")


def test_an_alarm_set_by_hand_rolls_back_without_a_failed_request(lab: Lab) -> None:
    lab.config("hand-1", lab.artifact("hand-1"))
    lab.config("hand-2", lab.artifact("hand-2"))
    lab.endpoint("hand", "hand-1")
    lab.alarm("hand-switch", "hand")
    config = blue_green("LINEAR", 100, 50, AutoRollbackConfiguration={"Alarms": [{"AlarmName": "hand-switch"}]})
    with lab.hammer("hand") as answers:
        lab.sagemaker.update_endpoint(EndpointName="hand", EndpointConfigName="hand-2", DeploymentConfig=config)
        until(lambda: answers["hand-2"] > 5)
        lab.cloudwatch.set_alarm_state(AlarmName="hand-switch", StateValue="ALARM", StateReason="by hand")
        assert "hand-switch" in lab.settled("hand")["FailureReason"]
        goal = answers["hand-1"] + 50
        until(lambda: answers["hand-1"] > goal)
    assert set(answers) == {"hand-1", "hand-2"}


def test_a_new_fleet_that_does_not_start_leaves_the_old_serving(lab: Lab) -> None:
    lab.config("start-1", lab.artifact("start-1"))
    lab.config("start-2", lab.artifact("start-2", load="raise SystemExit(1)"))
    lab.endpoint("start", "start-1")
    with lab.hammer("start") as answers:
        lab.sagemaker.update_endpoint(EndpointName="start", EndpointConfigName="start-2")
        found = lab.settled("start")
    assert found["EndpointConfigName"] == "start-1" and "ping health check" in found["FailureReason"]
    assert set(answers) == {"start-1"}


def test_requests_in_flight_are_answered_before_a_fleet_ends(lab: Lab) -> None:
    lab.config("drain-1", lab.artifact("drain-1", predict="time.sleep(0.7); return body.decode()"))
    lab.config("drain-2", lab.artifact("drain-2"))
    lab.endpoint("drain", "drain-1")
    with lab.hammer("drain") as answers:
        lab.sagemaker.update_endpoint(EndpointName="drain", EndpointConfigName="drain-2")
        lab.settled("drain")
    assert set(answers) == {"drain-1", "drain-2"}


def test_latency_is_measured_and_its_percentile_rings(lab: Lab) -> None:
    lab.config("slowly", lab.artifact("slowly", predict="time.sleep(0.05); return body.decode()"))
    lab.endpoint("slowly", "slowly")
    lab.alarm("slowly-fine", "slowly", "ModelLatency", ExtendedStatistic="p99", Threshold=5_000_000)
    lab.alarm("slowly-bad", "slowly", "ModelLatency", ExtendedStatistic="p99", Threshold=40_000)
    lab.alarm("slowly-missing", "no-such-endpoint", TreatMissingData="missing")
    lab.alarm("slowly-breaching", "no-such-endpoint", TreatMissingData="breaching")
    with lab.hammer("slowly"):
        until(lambda: lab.state("slowly-bad") == "ALARM")
        until(lambda: lab.state("slowly-breaching") == "ALARM")
        assert lab.state("slowly-fine") == "OK" and lab.state("slowly-missing") == "INSUFFICIENT_DATA"
    dimensions = [{"Name": "EndpointName", "Value": "slowly"}, {"Name": "VariantName", "Value": "AllTraffic"}]
    now = datetime.now(UTC)
    found = lab.cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker", MetricName="ModelLatency", Dimensions=dimensions, Period=3600,
        StartTime=now - timedelta(hours=1), EndTime=now + timedelta(hours=1), Statistics=["Minimum"],
    )  # fmt: skip
    assert min(point["Minimum"] for point in found["Datapoints"]) > 50_000
