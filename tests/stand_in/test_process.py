"""The stand-in as a process: it trains the committed definition of a baked project, and ends cleanly."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from local_lab import write

from stand_in.aws_lab import AwsLab, client
from stand_in.proxy import Proxy, Weather
from stand_in.remote import MACHINERY, READY, TESTS, Remote

ACCOUNT, REGION = "111111111111", "us-east-1"
POLL = {"MLOPS_POLL_SECONDS": "0.1"}


def test_the_verbs_train_a_model_in_an_aws_that_is_not_there(
    template: Path, tmp_path: Path, stand_in: Remote, run_in: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The committed definition, the user's commands, boto3 and HTTP: the model that comes out is a real one."""
    from conftest import bake_template

    project = bake_template(template, tmp_path, dev_account_id=ACCOUNT)
    name = project.name
    bucket = stand_in.prepare(name, ACCOUNT, REGION)
    stand_in.set_check_roles(True)
    env = stand_in.environment(ACCOUNT, REGION) | POLL
    ran = run_in(project, "mlops", "run", "--env", "dev", env=env)
    assert "model 1 registered" in ran.stdout
    sagemaker, s3 = client("sagemaker", env), client("s3", env)
    (listed,) = sagemaker.list_model_packages(ModelPackageGroupName=name)["ModelPackageSummaryList"]
    package = sagemaker.describe_model_package(ModelPackageName=listed["ModelPackageArn"])
    model = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    key = model.removeprefix(f"s3://{bucket}/")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read()[:2] == b"\x1f\x8b"
    statistics = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    assert b"accuracy" in s3.get_object(Bucket=bucket, Key=statistics.removeprefix(f"s3://{bucket}/"))["Body"].read()
    again = run_in(project, "mlops", "run", "--env", "dev", env=env)
    assert "cached" in again.stdout


def test_a_run_over_a_bad_network_ends_right_and_exactly_once(
    template: Path, tmp_path: Path, stand_in: Remote, run_in: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A fifth of all calls is throttled or loses its connection, half of those after AWS has done what was asked."""
    from conftest import bake_template

    project = bake_template(template, tmp_path, dev_account_id=ACCOUNT)
    stand_in.prepare(project.name, ACCOUNT, REGION)
    env = stand_in.environment(ACCOUNT, REGION) | POLL
    bad = Proxy(stand_in.url, Weather(throttle=0.1, reset_before=0.05, reset_after=0.05), seed=1)
    try:
        ran = run_in(project, "mlops", "run", "--env", "dev", env=env | {"AWS_ENDPOINT_URL": bad.url})
    finally:
        bad.close()
    assert "model 1 registered" in ran.stdout
    assert bad.counts["throttle"] and bad.counts["reset_before"] + bad.counts["reset_after"]
    sagemaker = client("sagemaker", env)
    assert len(sagemaker.list_pipeline_executions(PipelineName=project.name)["PipelineExecutionSummaries"]) == 1
    assert len(sagemaker.list_model_packages(ModelPackageGroupName=project.name)["ModelPackageSummaryList"]) == 1


@pytest.fixture
def own() -> Remote:
    """A process of this test's Python, whose jobs have no libraries."""
    return Remote(Path(sys.executable))


def test_a_process_is_told_what_a_test_wants(own: Remote) -> None:
    try:
        aws = AwsLab(own.environment("000000000000"))
        step = aws.processing("Work", write("''"))
        own.add_fault("Work", "ClientError: as asked", when="create")
        assert aws.run(step).steps["Work"]["FailureReason"] == "ClientError: as asked"
        assert aws.run(step).status == "Succeeded"
        with pytest.raises(ValueError, match="there is no /stand-in/nonsense"):
            own._post("nonsense", {})
        with pytest.raises(ValueError, match="`when` is one of"):
            own.add_fault("Work", "r", when="never")
        own.reset()
        assert client("s3", own.environment("000000000000")).list_buckets()["Buckets"] == []
    finally:
        own.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(own.url.rpartition(":")[2])))


def test_an_interrupt_ends_it_with_the_jobs_that_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    env["PYTHONPATH"] = os.pathsep.join([str(MACHINERY), str(TESTS)])
    command = [sys.executable, "-m", "stand_in"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        shown = {}
        for line in process.stdout:
            if line.startswith(READY):
                break
            name, _, value = line.removeprefix("export ").strip().partition("=")
            shown[name] = value
        aws = AwsLab(shown)
        lock = tmp_path / "lock"
        script = f"import fcntl\nheld = open({str(lock)!r}, 'w')\nfcntl.flock(held, fcntl.LOCK_EX)\n"
        script += f"held.write('held')\nheld.flush()\nopen({str(tmp_path / 'gate')!r}).read()\n"
        aws.define(aws.processing("Work", script))
        arn = aws.start()
        aws.until(arn, lambda _: lock.is_file() and lock.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    deadline = time.monotonic() + 10
    while not is_free(lock) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_free(lock), "the job outlived the server"


def is_free(lock: Path) -> bool:
    """Whether no process holds a lock on a file any more: the kernel takes it from one that has ended."""
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(MACHINERY), str(TESTS)])}
        command = [sys.executable, "-m", "stand_in", "--port", port]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr
