"""[tracking] in environments/ENV.toml: executions that have ended are runs in MLflow."""

import json
import os
import re
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clean_copy import ROOT
from conftest import RunIn, make_place, run_module, without_shell_settings
from fakes.json_server import JsonServer
from fakes.remote import client
from places import ACCOUNT, execution

from sagegate.files import Json

if TYPE_CHECKING:
    from fakes.remote import Remote

PAGE = (ROOT / "docs" / "how-to" / "track-in-mlflow.md").read_text(encoding="utf-8")
ARN = "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/team"
NOWHERE = "http://127.0.0.1:9"  # the port `discard`, at which nobody listens
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
# In one process, because importing MLflow takes seconds.
FOLLOW_AND_READ = """
import contextlib, json, os, sys
from mlflow import MlflowClient
from sagegate.cli import cli
os.chdir("model")
for name in sys.argv[1:]:
    with contextlib.suppress(SystemExit):
        cli.main(["status", name, "--follow"])
os.chdir("..")
client = MlflowClient("sqlite:///mlflow.db")
ids = [e.experiment_id for e in client.search_experiments(filter_string="name = 'my-model'")]
runs = client.search_runs(ids)
files = [[file.path for file in client.list_artifacts(run.info.run_id)] for run in runs]
found = [vars(run.info) | run.data.to_dictionary() | {"files": names} for run, names in zip(runs, files)]
print(json.dumps(found, default=str))
"""
# IAM's actions for the calls that a run makes, as in the page.
ACTIONS = {
    "experiments/create": "CreateExperiment",
    "experiments/get-by-name": "GetExperimentByName",
    "runs/search": "SearchRuns",
    "runs/create": "CreateRun",
    "runs/get": "GetRun",
    "runs/log-batch": "LogBatch",
    "runs/update": "UpdateRun",
}
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def tracked(sdk_env: Path) -> RunIn:
    """`run_in` with MLflow and its plugin for ARNs, which the SageMaker SDK needs, too."""

    def run(
        project: Path, *args: str, check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run_module(sdk_env, project, *args, check=check, env=QUIET | (env or {}))

    return run


def track(project: Path, uri: str, environment: str = "local") -> None:
    """Write [tracking] into an environment's settings."""
    file = project / "environments" / f"{environment}.toml"
    text = file.read_text(encoding="utf-8").partition("\n# [tracking]")[0].partition("\n[tracking]")[0]
    file.write_text(f'{text}\n[tracking]\nmlflow = "{uri}"\n', encoding="utf-8")


class FakeMlflow(JsonServer):
    """The part of MLflow's REST API that a run needs; its one run is `run`. Artifacts go to S3, as with SageMaker."""

    def __init__(self, artifacts: str) -> None:
        self.artifacts, self.experiment, self.run = artifacts, "", {}  # type: str, str, Json
        self.called: set[str] = set()
        super().__init__()

    def answer(self, method: str, url: str, authorization: str, body: Json) -> tuple[int, Json, dict[str, str]]:
        """Return status, body and headers for a request."""
        name = url.partition("?")[0].rpartition("/mlflow/")[2]
        self.called.add(name)
        if name == "experiments/create":
            self.experiment = body["name"]
        elif name == "runs/create":
            assert not self.run
            info = {"run_id": "one", "experiment_id": "7", "status": "RUNNING", "artifact_uri": self.artifacts}
            self.run = {"info": info | body, "data": {"tags": body["tags"]}}
        elif name == "runs/update":
            self.run["info"] |= body
        elif name == "runs/log-batch":
            for kind in ("metrics", "params", "tags"):
                self.run["data"][kind] = body.get(kind, [])
        known = self.experiment or not name.endswith("get-by-name")
        answers: dict[str, Json] = {
            "experiments/create": {"experiment_id": "7"},
            "experiments/get-by-name": {"experiment": {"experiment_id": "7", "name": self.experiment}},
            "runs/search": {"runs": [self.run] if self.run else []},
            "runs/create": {"run": self.run},
            "runs/get": {"run": self.run},
            "runs/update": {"run_info": self.run.get("info")},
            "runs/log-batch": {},
        }
        if name not in answers or not known:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no {name}"}, {}
        return 200, answers[name], {}

    def data(self, kind: str) -> Json:
        """Return the run's tags, params or metrics."""
        return {entry["key"]: entry["value"] for entry in self.run["data"][kind]}


def test_a_run_in_mlflow_has_what_the_page_says(own_project: Path, tracked: RunIn, sdk_env: Path) -> None:
    uv = f'uv() {{ case "$1 $2" in "run sagegate") shift 2; "{sdk_env}" -m sagegate "$@";; esac; }}\n'
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?s)```sh\n(.*?)```", PAGE)]
    env = without_shell_settings({"PYTHONPATH": str(ROOT / "src")} | QUIET)
    command = ["bash", "-e", "-c", uv + "\n".join(blocks)]
    done = subprocess.run(command, cwd=own_project, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    passed = execution(done.stdout)
    assert done.stdout.endswith(f"tracking: run {passed} in sqlite:///mlflow.db\n")

    track(own_project, NOWHERE)
    weak = ("--set", "num_round=2", "--set", "max_depth=1")
    down = tracked(own_project, "sagegate", "run", *weak, check=False)
    rejected = execution(down.stdout)
    assert down.returncode == 3 and len(down.stderr.splitlines()) == 1
    assert f"execution {rejected} has ended as shown, but is not in MLflow ({NOWHERE}): " in down.stderr
    assert f"`sagegate status {rejected} --follow` tries again" in down.stderr
    track(own_project, "sqlite:///mlflow.db")
    (own_project / "follow_and_read.py").write_text(FOLLOW_AND_READ, encoding="utf-8")
    again = tracked(own_project, "follow_and_read", rejected, passed)  # one that is not there yet, and one that is
    assert not again.stderr
    first, second = sorted(json.loads(again.stdout.splitlines()[-1]), key=lambda run: str(run["_start_time"]))
    assert [first["_run_name"], second["_run_name"]] == [passed, rejected]
    for run, status, gate in ((first, "Succeeded", "passed"), (second, "Rejected", "rejected")):
        tags = run["tags"]
        assert (run["_status"], tags["status"], tags["gate"], tags["environment"]) == (
            "FINISHED",
            status,
            gate,
            "local",
        )
        assert run["files"] == ["evaluation.json", "report.html"] and run["_start_time"] < run["_end_time"]
        (file,) = own_project.glob(f"mlruns/{run['_run_id']}/artifacts/evaluation.json")
        metrics = json.loads(file.read_text(encoding="utf-8"))["binary_classification_metrics"]
        assert run["metrics"]["auc"] == metrics["auc"]["value"]
        assert run["metrics"]["auc_standard_deviation"] == metrics["auc"]["standard_deviation"]
        assert run["params"]["GateThreshold"] == "0.95" and "RoleArn" not in run["params"]
    assert first["tags"]["model_version"] == "1" and "model_version" not in second["tags"]
    assert "misses the threshold" in second["tags"]["mlflow.note.content"]
    assert (first["params"]["max_depth"], second["params"]["max_depth"]) == ("4", "1")
    assert second["params"]["Overrides"] == "max_depth=1 num_round=2"
    subprocess.run(["git", "init", "--quiet"], cwd=own_project, check=True)
    ignored = subprocess.run(["git", "check-ignore", "mlflow.db", "mlruns"], cwd=own_project, capture_output=True)
    assert ignored.stdout.split() == [b"mlflow.db", b"mlruns"]


def test_a_server_s_arn_goes_to_the_plugin_with_the_profile_s_credentials(
    own_project: Path, tracked: RunIn, fake_aws: "Remote", tmp_path: Path
) -> None:
    """A run that fails, and is completed after a retry."""
    dev = make_place("dev", own_project, tracked, fake_aws)
    track(own_project, ARN, "dev")
    keys, s3 = {name: dev.env[name] for name in KEYS}, client("s3", dev.env)
    lines = ["[profile my-model-dev]", *(f"{name.lower()} = {key}" for name, key in keys.items())]
    (tmp_path / "config").write_text("\n".join(lines), encoding="utf-8")
    bucket = f"my-model-{ACCOUNT}-us-east-1"
    with FakeMlflow(f"s3://{bucket}/mlflow/one") as mlflow:
        dev.env |= {"AWS_CONFIG_FILE": str(tmp_path / "config"), "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": mlflow.url}
        dev.env |= dict.fromkeys(KEYS, "of-nobody")
        fake_aws.add_fault("Train", "AlgorithmError: no memory left")
        name = execution(dev.run("run", code=1))
        assert mlflow.run["info"]["status"] == "FAILED" and not mlflow.run["data"]["metrics"]
        tags = mlflow.data("tags")
        assert tags["status"] == "Failed" and "no memory left" in tags["mlflow.note.content"] and "gate" not in tags
        assert f"tracking: run {name} in {ARN}" in dev.run("run", "--retry", name)
    assert mlflow.run["info"]["status"] == "FINISHED" and mlflow.data("metrics")["auc"] > 0.9
    assert mlflow.data("tags")["model_version"] == "1" and mlflow.run["info"]["run_name"] == name
    stored = s3.list_objects_v2(Bucket=bucket, Prefix="mlflow/one/")["Contents"]
    assert [item["Key"] for item in stored] == ["mlflow/one/evaluation.json", "mlflow/one/report.html"]
    assert {headers["x-mlflow-sm-tracking-server-arn"] for headers in mlflow.headers} == {ARN}
    credential = f"AWS4-HMAC-SHA256 Credential={keys['AWS_ACCESS_KEY_ID']}/"
    assert all(headers["Authorization"].startswith(credential) for headers in mlflow.headers)
    assert {ACTIONS[name] for name in mlflow.called} == set(re.findall(r"sagemaker-mlflow:(\w+)", PAGE))


def test_without_the_table_mlflow_is_not_imported(own_project: Path, run_in: RunIn, tmp_path: Path) -> None:
    (tmp_path / "mlflow.py").write_text("raise SystemExit('MLflow was imported')", encoding="utf-8")
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(tmp_path)])}
    done = run_in(own_project, "sagegate", "run", env=env)
    assert not done.stderr and "racking" not in done.stdout
    assert not [*own_project.glob("mlflow*"), *own_project.glob("mlruns")]


@pytest.mark.parametrize(
    ("uri", "package"), [("sqlite:///mlflow.db", "mlflow"), (NOWHERE, "mlflow"), (ARN, "sagemaker-mlflow")]
)
def test_a_missing_package_is_named_before_anything_runs(
    own_project: Path, run_in: RunIn, uri: str, package: str
) -> None:
    track(own_project, uri)
    done = run_in(own_project, "sagegate", "run", check=False)
    where = "environments/local.toml: tracking.mlflow"
    assert done.stderr == f"sagegate: {where}: needs a package: `uv add {package}` installs it; or remove [tracking]\n"
    assert done.returncode == 2 and not done.stdout and not (own_project / ".mlops" / "executions").exists()
