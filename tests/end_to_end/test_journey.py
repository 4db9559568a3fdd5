"""The product's promise, from end to end: what is pushed is trained, gated, proposed, deployed and rolled back.

Only git and the reviewer's merges are done here; all else the project's own workflows do, unmodified. Each stage
asserts what a person sees: the job's result, its page, the pull request, the endpoint's answer.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import run_module
from fakes.github_routes import subject_prefix
from fakes.remote import client
from test_workflows import ACCOUNTS, WORSE, locked
from workflow_lab import REPOSITORY, Repository, Run

if TYPE_CHECKING:
    from fakes.remote import Remote

__all__ = ["locked"]  # a fixture
JOBS = {("deploy.yml", "changed"), ("deploy.yml", "staging"), ("deploy.yml", "prod")}


class Journey:
    """A repository on its way, and the accounts it deploys to."""

    def __init__(self, repository: Repository, fake_aws: Remote) -> None:
        self.repository, self.fake_aws = repository, fake_aws
        self.done: set[tuple[str, str]] = set()

    def client(self, service: str, environment: str) -> Any:
        """A client of an environment's account, with its administrator's credentials."""
        return client(service, self.fake_aws.environment(ACCOUNTS[environment]))

    def run(self, workflow: str, event: tuple[str, dict[str, Any]], *options: str) -> Run:
        """Run a workflow, and note which jobs succeeded."""
        run = self.repository.run(workflow, event, *options)
        self.done |= {(workflow, job) for job in run.succeeded}
        return run

    def pushed(self, event: tuple[str, dict[str, Any]]) -> dict[str, Run]:
        """Run what a push to main starts, apart from ci, which tests/test_workflows.py runs."""
        changed = self.repository.changed(event[1]["before"])
        names = self.repository.triggered(changed)
        assert "ci.yml" in names
        return {name: self.run(name, event) for name in names if name != "ci.yml"}

    def merged(self, number: int) -> Run:
        """A reviewer merges a promotion, which deploys and does nothing else."""
        runs = self.pushed(self.repository.merge(number))
        assert list(runs) == ["deploy.yml"]
        return runs["deploy.yml"]

    def open(self) -> list[Any]:
        """The open pull requests."""
        return self.repository.github.pulls.all("open")

    def served(self, environment: str) -> tuple[int, float]:
        """The version that an environment's endpoint serves, and what it answers for the first row of the data."""
        sagemaker = self.client("sagemaker", environment)
        endpoint = sagemaker.describe_endpoint(EndpointName=f"my-model-{environment}")
        assert endpoint["EndpointStatus"] == "InService"
        config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
        container = model.get("PrimaryContainer") or model["Containers"][0]
        answer = self.client("sagemaker-runtime", environment).invoke_endpoint(
            EndpointName=f"my-model-{environment}",
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps({"instances": [first_row(self.repository.work)]}),
        )
        text = answer["Body"].read().decode()
        number = re.search(r"\d\.\d+", text)
        assert number, text
        return int(container["ModelPackageName"].rpartition("/")[2]), float(number[0])


def first_row(project: Path) -> dict[str, Any]:
    """A record as a caller sends it: the features of the data's first row."""
    with next((project / "data").glob("*.csv")).open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    features = list(row)[:-1]
    return {name: float(row[name]) for name in features}


@pytest.fixture
def journey(locked: Path, project_env: Path, tmp_path: Path, fake_aws: Remote) -> Iterator[Journey]:
    """A project with its accounts. The subjects of GitHub's tokens have ids."""
    for name, account in ACCOUNTS.items():
        command = ("bootstrap", name, "--yes", "--subject-prefix", subject_prefix(REPOSITORY))
        run_module(project_env, locked, "sagegate", *command, env=fake_aws.environment(account))
    repository = Repository(locked, tmp_path / "lab", project_env.parent.parent, fake_aws.environment(ACCOUNTS["dev"]))
    yield Journey(repository, fake_aws)
    repository.close()


def test_journey(journey: Journey) -> None:
    repository, bare = journey.repository, journey.repository.github.bare
    repository.commit("The project")
    repository.edit("mlops.toml", "max_depth = 4", "max_depth = 3")
    repository.commit("Trees of depth 3")

    # Push: the execution trains in dev, and staging's pull request brings the evidence.
    trained = journey.pushed(repository.push())["train.yml"]
    assert trained.jobs == {"train": "success", "promote": "success"}, trained.output
    assert "✅ dev: model 1 passed the gate" in trained.summary
    (pull,) = journey.open()
    assert pull["head"]["ref"] == "promote/staging" and "**`auc`**" in pull["body"]
    pinned = bare.content("promote/staging", "deployments/staging.json")
    assert pinned and json.loads(pinned)["model"]["version"] == 1

    # Merge: staging is deployed and tested, and prod's pull request is there.
    deployed = journey.merged(pull["number"])
    assert deployed.jobs["changed"] == deployed.jobs["staging"] == "success", deployed.output
    assert deployed.jobs.get("prod") in (None, "skipped")
    assert "✅ staging: model 1 is live" in deployed.summary
    version, first = journey.served("staging")
    assert version == 1 and 0.0 <= first <= 1.0
    (pull,) = journey.open()
    assert pull["head"]["ref"] == "promote/prod" and "prod" in pull["title"]

    # Merge: prod is deployed, and serves the same.
    deployed = journey.merged(pull["number"])
    assert deployed.jobs.get("staging") in (None, "skipped") and deployed.jobs["prod"] == "success", deployed.output
    assert "✅ prod: model 1 is live" in deployed.summary
    assert journey.served("prod") == (1, first)
    package = journey.client("sagemaker", "dev").describe_model_package(
        ModelPackageName=f"arn:aws:sagemaker:us-east-1:{ACCOUNTS['dev']}:model-package/my-model/1"
    )
    assert package["ModelApprovalStatus"] == "Approved"

    # A worse model: the gate stops it, red, with the numbers, and nothing is proposed.
    repository.edit("mlops.toml", *WORSE)
    repository.commit("One tree is enough")
    refused = journey.pushed(repository.push())["train.yml"]
    assert refused.jobs["train"] == "failure" and refused.jobs.get("promote") in (None, "skipped"), refused.output
    assert "❌ dev: the gate rejected the candidate" in refused.summary and "champion v1" in refused.summary
    assert journey.open() == []

    # A better one goes the same way.
    repository.edit("mlops.toml", WORSE[1], WORSE[0])
    repository.edit("mlops.toml", "max_depth = 3", "max_depth = 4")
    repository.commit("Trees of depth 4")
    better = journey.pushed(repository.push())["train.yml"]
    assert better.jobs == {"train": "success", "promote": "success"}, better.output
    (pull,) = journey.open()
    assert "champion" in pull["body"] or "model 1" in pull["body"]
    assert "✅ staging: model 2 is live" in journey.merged(pull["number"]).summary
    (pull,) = journey.open()
    assert "✅ prod: model 2 is live" in journey.merged(pull["number"]).summary
    assert journey.served("prod")[0] == 2

    # By hand: nothing to propose, and deploying again does nothing.
    asked = journey.run("promote.yml", ("workflow_dispatch", {"inputs": {}}))
    assert asked.jobs == {"propose": "success"} and "promote/prod: no pull request" in asked.summary, asked.output
    again = journey.run("deploy.yml", ("workflow_dispatch", {"inputs": {"environment": "prod"}}))
    assert again.jobs["prod"] == "success" and "already" in again.output, again.output

    # Revert prod's pull request: the former version serves.
    before = repository.pull()
    repository.git("revert", "--no-edit", "-m", "1", "HEAD")
    repository.git("push", "-q", "origin", "HEAD:refs/heads/main")
    reverted = journey.pushed(repository.push(before))["deploy.yml"]
    assert reverted.jobs["prod"] == "success" and "✅ prod: model 1 is live" in reverted.summary, reverted.output
    assert journey.served("prod") == (1, first)
    assert journey.served("staging")[0] == 2

    assert journey.done >= JOBS
