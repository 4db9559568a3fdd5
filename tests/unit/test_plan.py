"""`sagegate plan`: what changes against the pipeline of an environment, and against a git revision."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Bake, RunIn
from places import Place, use_account

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"


def test_a_plan_names_what_the_next_run_changes(place: Place) -> None:
    first = place.run("plan")
    assert f"pipeline my-model in {place.name}: created" in first and re.search(r"^\+ +Train", first, re.MULTILINE)
    assert "pipeline created" in place.run("run")
    assert place.run("plan").strip() == f"pipeline my-model in {place.name}: unchanged"

    place.edit("mlops.toml", "max_depth = 4", "max_depth = 6")
    place.edit("model/train.py", "kept the model with", "keeps the model with")
    changed = place.run("plan")
    assert f"pipeline my-model in {place.name}: updated" in changed
    assert re.search(r"^~ +max_depth +4 +6", changed, re.MULTILINE), changed
    assert re.search(r"^~ +model/train.py or what it imports +Train *$", changed, re.MULTILINE), changed
    assert "Preprocess" not in changed
    assert place.run("plan") == changed, "a plan writes nothing"
    assert "pipeline updated" in place.run("run")


def test_a_plan_shows_what_the_environment_writes_into_the_steps(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    with (project / "environments" / "local.toml").open("a") as file:
        file.write(f'\n[encryption]\nkms_key_arn = "{KEY}"\n')
    plan = run_in(project, "sagegate", "plan", "--markdown").stdout
    _, _, table = plan.partition("Settings of environments/local.toml in the steps")
    assert table and "| + | `Train` | `ResourceConfig.VolumeKmsKeyId` |" in table, plan


def test_a_stale_definition_is_planned_with_a_warning(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    with (project / "pipeline" / "pipeline.py").open("a") as source:
        source.write("# edited\n")
    assert "! pipeline/definition.json is stale" in run_in(project, "sagegate", "plan").stdout


def test_the_fields_of_a_changed_step_are_named(committed: Path, run_in: RunIn) -> None:
    edit(committed, "pipeline/definition.json", '"ExpireAfter": "P30D"', '"ExpireAfter": "P7D"')
    plan = run_in(committed, "sagegate", "plan", "--against", "main").stdout
    assert re.search(r"^~ +Train +CacheConfig.ExpireAfter +P30D +P7D", plan, re.MULTILINE), plan


# --- against a revision ---


def git(project: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=project, check=True, capture_output=True)


@pytest.fixture
def committed(bake: Bake) -> Path:
    """A project in a git repository of its own, on branch main."""
    project = bake()
    git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message=first")
    return project


def edit(project: Path, name: str, old: str, new: str) -> None:
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))


def test_against_a_revision_names_parameters_and_files(committed: Path, run_in: RunIn) -> None:
    same = run_in(committed, "sagegate", "plan", "--against", "main").stdout
    assert re.fullmatch(r"pipeline my-model, local, against main \([0-9a-f]{7}\): nothing changes", same.strip())

    edit(committed, "mlops.toml", "max_depth = 4", "max_depth = 6")
    edit(committed, "model/features.py", "from sklearn.compose", "# a | comment\nfrom sklearn.compose")
    plan = run_in(committed, "sagegate", "plan", "--against", "main").stdout
    assert re.search(r"^~ +max_depth +4 +6", plan, re.MULTILINE), plan
    assert re.search(r"^~ +model/features.py +(Preprocess, )?Train", plan, re.MULTILINE), plan


def test_against_a_revision_needs_no_aws(committed: Path, run_in: RunIn) -> None:
    use_account(committed)
    git(committed, "commit", "--quiet", "--all", "--message=accounts")
    edit(committed, "environments/dev.toml", 'instance_type = "ml.m5.xlarge"', 'instance_type = "ml.c5.xlarge"')
    arguments = ("sagegate", "plan", "--env", "dev", "--against", "HEAD", "--markdown")
    plan = run_in(committed, *arguments, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}).stdout
    assert re.match(r"### pipeline my-model, dev, against HEAD \([0-9a-f]{7}\): changes in parameters 1", plan)
    assert "| ~ | `TrainingInstanceType` | `ml.m5.xlarge` | `ml.c5.xlarge` |" in plan


def test_an_unknown_revision_is_an_error(committed: Path, run_in: RunIn) -> None:
    unknown = run_in(committed, "sagegate", "plan", "--against", "no-such-branch", check=False)
    assert unknown.returncode == 2
    assert "knows no revision 'no-such-branch'" in unknown.stderr and len(unknown.stderr.strip().splitlines()) == 1
    option = run_in(committed, "sagegate", "plan", "--against=--output=x", check=False)
    assert option.returncode == 2 and "knows no revision" in option.stderr and not (committed / "x").exists()


def test_against_a_revision_without_a_usable_pipeline_everything_is_new(committed: Path, run_in: RunIn) -> None:
    edit(committed, "mlops.toml", "[gate]", "[gate]\nnonsense = 1")
    git(committed, "commit", "--quiet", "--all", "--message=not valid")
    edit(committed, "mlops.toml", "[gate]\nnonsense = 1", "[gate]")
    plan = run_in(committed, "sagegate", "plan", "--against", "HEAD").stdout
    assert "everything counts as new" in plan and "gate.nonsense" in plan
    assert re.search(r"^\+ +Train", plan, re.MULTILINE)


def test_data_that_git_ignores_is_not_compared(committed: Path, run_in: RunIn) -> None:
    git(committed, "rm", "--quiet", "-r", "--cached", "data")
    git(committed, "commit", "--quiet", "--message=data elsewhere")
    assert "nothing changes" in run_in(committed, "sagegate", "plan", "--against", "HEAD").stdout


def test_a_project_below_the_top_of_a_repository(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=first")
    edit(project, "mlops.toml", "max_depth = 4", "max_depth = 6")
    edit(project, "data/breast_cancer.csv", "malignant", "benign")
    plan = run_in(project, "sagegate", "plan", "--against", "main").stdout
    assert re.search(r"^~ +max_depth +4 +6", plan, re.MULTILINE) and "InputDataVersion" in plan, plan
    assert "everything counts as new" not in plan


def test_outside_of_git_is_an_error(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    shutil.rmtree(project / ".git", ignore_errors=True)
    ceiling = {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    done = run_in(project, "sagegate", "plan", "--against", "HEAD", check=False, env=ceiling)
    assert done.returncode == 2 and "not a git repository" in done.stderr
