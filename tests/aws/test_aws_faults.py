"""Errors of AWS: throttling, lost connections, missing resources. Each call counts once; each error is one line."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakes.proxy import Proxy, Weather
from fakes.remote import client
from places import ACCOUNT, Place, execution, use_account

if TYPE_CHECKING:
    from fakes.remote import Remote

REGION = "us-east-1"


@pytest.fixture
def unreliable(dev: Place) -> Iterator[tuple[Place, Proxy, Any]]:
    """Yield an environment behind a proxy that disturbs a fifth of all calls, the proxy, and a client without it."""
    direct = client("sagemaker", dev.env)
    proxy = Proxy(dev.env["AWS_ENDPOINT_URL"], Weather(throttle=0.08, reset_before=0.06, reset_after=0.06), seed=7)
    dev.env["AWS_ENDPOINT_URL"] = proxy.url
    yield dev, proxy, direct
    proxy.close()


def test_commands_succeed_when_a_fifth_of_all_calls_fail(unreliable: tuple[Place, Proxy, Any]) -> None:
    place, proxy, direct = unreliable
    output = place.run("run")
    assert "model 1 registered" in output
    place.run("approve", "1", "--reason", "good")
    assert "pipeline unchanged" in place.run("run", "--again")
    place.run("models")
    place.run("reject", "2", "--reason", "the same as the first")
    # Repeated calls have no second effect: two runs are two executions and two packages.
    assert len(direct.list_pipeline_executions(PipelineName="my-model")["PipelineExecutionSummaries"]) == 2
    packages = direct.list_model_packages(ModelPackageGroupName="my-model", SortOrder="Ascending")
    found = {p["ModelPackageVersion"]: p["ModelApprovalStatus"] for p in packages["ModelPackageSummaryList"]}
    assert found == {1: "Approved", 2: "Rejected"}
    disturbed = {kind: proxy.counts[kind] for kind in ("throttle", "reset_before", "reset_after")}
    assert all(disturbed.values()), f"the proxy disturbed too few calls: {proxy.counts}"


def test_a_lost_response_does_not_start_a_second_execution(dev: Place) -> None:
    """The first response of each call that changes something is lost."""
    seen: set[str] = set()
    direct = client("sagemaker", dev.env)
    proxy = Proxy(dev.env["AWS_ENDPOINT_URL"], Weather())
    lock = threading.Lock()

    def fate(operation: str) -> str:
        with lock:
            first = operation not in seen and "Describe" not in operation and "List" not in operation
            seen.add(operation)
        return "reset_after" if first else "pass"

    proxy.fate = fate  # type: ignore[method-assign]
    dev.env["AWS_ENDPOINT_URL"] = proxy.url
    try:
        assert "model 1 registered" in dev.run("run")
    finally:
        proxy.close()
    assert any("StartPipelineExecution" in operation for operation in seen), seen
    assert len(direct.list_pipeline_executions(PipelineName="my-model")["PipelineExecutionSummaries"]) == 1


def test_an_answer_that_was_cut_off_is_asked_for_again(dev: Place) -> None:
    """botocore takes what there is of it: of JSON an answer without any field, of XML an error of its parser."""
    seen: set[str] = set()
    proxy = Proxy(dev.env["AWS_ENDPOINT_URL"], Weather())

    def fate(operation: str) -> str:
        first = operation not in seen
        seen.add(operation)
        return "truncate" if first else "pass"

    proxy.fate = fate  # type: ignore[method-assign]
    dev.env["AWS_ENDPOINT_URL"] = proxy.url
    try:
        assert "model 1 registered" in dev.run("run")
        seen.clear()
        assert "auc" in dev.run("models")
    finally:
        proxy.close()
    assert {"GetCallerIdentity", "ListModelPackages", "GET s3"} <= seen


def test_a_connection_that_stays_lost_is_one_line(dev: Place) -> None:
    proxy = Proxy(dev.env["AWS_ENDPOINT_URL"], Weather())
    proxy.fate = lambda operation: "pass" if operation == "GetCallerIdentity" else "reset_before"  # type: ignore[method-assign]
    dev.env |= {"AWS_ENDPOINT_URL": proxy.url, "AWS_MAX_ATTEMPTS": "1"}
    try:
        for command in (["models"], ["status"], ["run"], ["approve", "1", "--reason", "x"]):
            assert "AWS does not answer" in error_line(dev.run(*command, code=1))
    finally:
        proxy.close()


def error_line(output: str) -> str:
    """Return the last line, which must be the command's error."""
    lines = output.strip().splitlines()
    assert lines[-1].startswith("sagegate: "), output
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_the_account_is_still_the_placeholder(dev: Place) -> None:
    use_account(dev.project, "000000000000")
    assert "account_id is still the placeholder" in error_line(dev.run("run", code=1))


def test_aws_does_not_answer(dev: Place) -> None:
    dev.env["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    dev.env["AWS_MAX_ATTEMPTS"] = "1"
    assert "AWS does not answer" in error_line(dev.run("status", code=1))


def test_the_bucket_is_missing(dev: Place, fake_aws: "Remote") -> None:
    fake_aws.reset()
    output = error_line(dev.run("run", code=1))
    assert f"my-model-{ACCOUNT}-{REGION}" in output and "sagegate bootstrap" in output


def test_the_role_is_missing(dev: Place) -> None:
    client("iam", dev.env).delete_role(RoleName="my-model-execution")
    output = dev.run("run", code=1)
    assert "my-model-execution" in output and "Traceback" not in output


def test_the_pipeline_is_deleted_while_it_runs(dev: Place, fake_aws: "Remote") -> None:
    name = execution(dev.run("run", "--no-wait"))
    fake_aws.forget("my-model", ACCOUNT)
    output = error_line(dev.run("status", name, "--follow", code=1))
    assert name in output and "sagegate status" in output


def test_credentials_expire_during_a_run(dev: Place) -> None:
    """The execution goes on, and the error says how to follow it again."""
    program = Path(dev.project) / "expire.py"
    program.write_text(
        "import sys\n"
        "from botocore.exceptions import ClientError\n"
        "from sagegate import cli, session\n"
        "def wait(self, arn, seconds):\n"
        "    error = {'Error': {'Code': 'ExpiredTokenException', 'Message': 'expired'}}\n"
        "    raise ClientError(error, 'DescribePipelineExecution')\n"
        "session.AwsSession.wait = wait\n"
        "sys.argv = ['sagegate', 'run', '--env', 'dev']\n"
        "cli.main()\n",
        encoding="utf-8",
    )
    done = dev.python("expire")
    assert done.returncode == 1
    output = error_line(done.stderr)
    assert "credentials expired; the execution goes on" in output and "--follow --env dev" in output


def test_an_execution_started_with_no_wait_can_be_stopped_and_followed(dev: Place) -> None:
    dev.edit("model/train.py", "def main(", "import time\n\ntime.sleep(60)\n\n\ndef main(")
    started = dev.run("run", "--no-wait")
    name = execution(started)
    assert "sagegate status" in started and "--follow" in started
    assert f"execution {name} is stopping" in dev.run("stop", name)
    assert "Stopped" in dev.run("status", name, "--follow", code=1)


def test_tags_of_the_pipeline(dev: Place) -> None:
    dev.run("run", "--no-wait")
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/my-model"
    tags = {t["Key"]: t["Value"] for t in client("sagemaker", dev.env).list_tags(ResourceArn=arn)["Tags"]}
    assert tags["project"] == "my-model" and tags["repository"] == "my-org/my-model" and "commit" in tags


def test_unchanged_code_and_data_are_not_uploaded_again(dev: Place) -> None:
    dev.run("run", "--no-wait")
    s3 = client("s3", dev.env)

    def upload_times() -> dict[str, Any]:
        bucket = f"my-model-{ACCOUNT}-{REGION}"
        found = s3.list_objects_v2(Bucket=bucket, Prefix="my-model/")["Contents"]
        return {o["Key"]: o["LastModified"] for o in found if "/code/" in o["Key"] or "/raw/" in o["Key"]}

    before = upload_times()
    assert before
    assert "pipeline unchanged" in dev.run("run", "--no-wait", "--again")
    assert upload_times() == before
    dev.edit("model/evaluate.py", "def main(", "# changed\ndef main(")
    assert "pipeline updated" in dev.run("run", "--no-wait")
    assert len(upload_times()) > len(before) and json.dumps(sorted(before)) != json.dumps(sorted(upload_times()))
