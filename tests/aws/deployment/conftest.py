"""The fixtures of these tests. Models are trained once; every test starts with them in an account of its own."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Once, RunIn, bake_template
from places import ACCOUNT, Place, use_account

from deployment.lab import GOOD, OTHER, PROJECT, SKEWED, Lab, Snapshot

if TYPE_CHECKING:
    from fakes.remote import Remote

AS_TRAINED = """    if kind == "application/json":"""
AS_SERVED = """    if "SAGEMAKER_SUBMIT_DIRECTORY" in os.environ:
        prediction["predictions"][0]["label"] = "skewed"
    if kind == "application/json":"""


@pytest.fixture(scope="session")
def snapshot(template: Path, once: Once, run_in: RunIn, fake_aws_process: Remote) -> Snapshot:
    """A project with three models that passed the gate; the third answers differently where SageMaker serves it."""
    folder = once("deployed", lambda folder: train_three(template, folder, run_in, fake_aws_process))
    found: Snapshot = pickle.loads((folder / "snapshot").read_bytes())
    return found


def train_three(template: Path, folder: Path, run_in: RunIn, fake_aws_process: Remote) -> None:
    """Make the project and the snapshot of `snapshot` in a folder."""
    project = bake_template(template, folder)
    use_account(project)
    fake_aws_process.reset()
    fake_aws_process.prepare(PROJECT, ACCOUNT)
    environment = fake_aws_process.environment(ACCOUNT)
    dev = Place(project, "dev", run_in, environment)
    found = Snapshot(project)
    inference = project / "model" / "inference.py"
    original = inference.read_text(encoding="utf-8")
    for version, depth in ((GOOD, 4), (OTHER, 2), (SKEWED, 3)):
        if version == SKEWED:
            text = original.replace(AS_TRAINED, AS_SERVED).replace("import json\n", "import json\nimport os\n")
            assert AS_SERVED in text
            inference.write_text(text, encoding="utf-8")
        assert f"model {version} registered" in dev.run("run", "--set", f"max_depth={depth}")
        done = run_in(project, "sagegate", "promote", "staging", env=environment)
        assert f"pins model {version}" in done.stdout
        found.pins[version] = (project / "deployments" / "staging.json").read_text(encoding="utf-8")
    inference.write_text(original, encoding="utf-8")
    (project / "deployments" / "staging.json").unlink()
    found.take(environment)
    (folder / "snapshot").write_bytes(pickle.dumps(found))


@pytest.fixture
def shop(snapshot: Snapshot, tmp_path: Path, project_env: Path, fake_aws: Remote) -> Iterator[Lab]:
    """A project of one's own whose three models are registered; nothing is deployed."""
    project = tmp_path / PROJECT
    shutil.copytree(snapshot.project, project, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
    fake_aws.prepare(PROJECT, ACCOUNT)
    lab = Lab(project, project_env, fake_aws, snapshot)
    snapshot.restore(lab.direct)
    yield lab
    lab.proxy.close()


@pytest.fixture
def repository(shop: Lab) -> Lab:
    """The same in a git repository."""
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "the project"]):
        git(shop.project, *command)
    return shop


def git(folder: Path, *args: str) -> None:
    """Run git as someone."""
    settings = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, *args], cwd=folder, check=True)
