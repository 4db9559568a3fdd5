"""`sagegate plan` tells what `sagegate run` then does, on this machine and on AWS; and what a change does, without either."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Bake, RunIn
from places import Place, execution, use_account

STEPS = ("Preprocess", "Train", "Evaluate")


def forecast(output: str) -> dict[str, str]:
    """Each step's verdict in the table of the next execution."""
    return {name: verdict for name, verdict in re.findall(r"^(\w+) +(cached|runs)\b", output, re.MULTILINE)}


def what_happened(place: Place, run: str) -> dict[str, str]:
    lines = place.run("status", execution(run)).splitlines()
    return {line.split()[0]: "cached" if "cached" in line else "runs" for line in lines if line.startswith(STEPS)}


def test_a_plan_comes_true(place: Place) -> None:
    first = place.run("plan")
    assert "there is no pipeline my-model" in first and "it has not succeeded before" in first
    assert "TrainCode: model/train.py" in first and "breast_cancer.csv" in first
    assert "pipeline created" in place.run("run")

    again = place.run("plan")
    assert f"pipeline my-model in {place.name}: nothing changes" in again and "To store" not in again
    if place.name == "local":  # on AWS, Evaluate reads the champion's fixed place, so its cache is off there
        assert len(again.strip().splitlines()) == 1
    run = place.run("run")
    assert what_happened(place, run) == {"Preprocess": "cached", "Train": "cached"} | {
        "Evaluate": "cached" if place.name == "local" else "runs"
    }

    place.edit("mlops.toml", "max_depth = 4", "max_depth = 6")
    place.edit("model/train.py", "kept {record", "keeps {record")
    changed = place.run("plan")
    assert re.search(r"^~ +max_depth +4 +6", changed, re.MULTILINE), changed
    assert "2 parameters changed" in changed and "HyperParameters.max_depth: 4 → 6" in changed
    assert re.search(r"^code +TrainCode.* ~ train.py *$", changed, re.MULTILINE), changed
    assert "PreprocessCode" not in changed
    wanted = {name: verdict for name, verdict in forecast(changed).items() if name in STEPS}
    assert wanted == {"Preprocess": "cached", "Train": "runs", "Evaluate": "runs"}
    assert what_happened(place, place.run("run")) == wanted


def test_a_plan_changes_nothing(place: Place) -> None:
    place.run("run")
    place.edit("mlops.toml", "eta = 0.1", "eta = 0.2")
    before = snapshot(place.project)
    first = place.run("plan")
    assert place.run("plan") == first and snapshot(place.project) == before


def snapshot(project: Path) -> dict[str, int]:
    files = (file for file in project.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file): file.stat().st_mtime_ns for file in files}


def test_a_stale_definition_is_planned_and_marked(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    with (project / "pipeline" / "pipeline.py").open("a") as source:
        source.write("# edited\n")
    said = run_in(project, "sagegate", "plan").stdout
    assert "pipeline/pipeline.py" in said.splitlines()[1] and "old definition" in said


def test_the_steps_that_change_are_named(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    run_in(project, "sagegate", "run")
    definition = project / "pipeline" / "definition.json"
    text = definition.read_text()
    assert '"ExpireAfter": "P30D"' in text and '"SM_OUTPUT_DIR"' in text
    definition.write_text(text.replace('"ExpireAfter": "P30D"', '"ExpireAfter": "P7D"'))
    said = run_in(project, "sagegate", "plan").stdout
    assert re.search(r"^~ +Train +CacheConfig.ExpireAfter +P30D +P7D", said, re.MULTILINE), said
    assert forecast(said)["Train"] == "cached"  # how long a result may be used is no part of what it depends on


# --- against a revision ---


def git(project: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)


@pytest.fixture
def committed(bake: Bake) -> Path:
    """A project in a git repository of its own."""
    project = bake()
    git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message=first")
    return project


def edit(project: Path, name: str, old: str, new: str) -> None:
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))


def test_against_a_revision(committed: Path, run_in: RunIn) -> None:
    same = run_in(committed, "sagegate", "plan", "--against", "main").stdout
    assert same.strip() == "pipeline my-model, local, against main: nothing changes"

    edit(committed, "mlops.toml", "max_depth = 4", "max_depth = 6")
    edit(committed, "model/features.py", "from __future__", "# a | comment\nfrom __future__")
    edit(committed, "environments/prod.toml", "max_instance_count = 4", "max_instance_count = 8")
    (committed / "data" / "more.csv").write_text((committed / "data" / "breast_cancer.csv").read_text())
    said = run_in(committed, "sagegate", "plan", "--against", "main").stdout
    assert re.search(r"^~ +mlops.toml +hyperparameters.max_depth +4 +6", said, re.MULTILINE), said
    assert re.search(r"^~ +environments/prod.toml +endpoint.max_instance_count +4 +8", said, re.MULTILINE), said
    assert re.search(r"^TrainCode +model/train.py +~ features.py", said, re.MULTILINE), said
    assert "PreprocessCode" not in said and "+  data/more.csv" in said
    assert set(forecast(said).values()) == {"runs"} and {"Preprocess", "Train", "Rejected"} <= forecast(said).keys()


def test_against_needs_no_aws(committed: Path, run_in: RunIn) -> None:
    use_account(committed)
    git(committed, "commit", "--quiet", "--all", "--message=accounts")
    edit(committed, "environments/dev.toml", 'instance_type = "ml.m5.xlarge"', 'instance_type = "ml.c5.xlarge"')
    arguments = ("sagegate", "plan", "--env", "dev", "--against", "HEAD", "--markdown")
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    said = run_in(committed, *arguments, env=nowhere).stdout
    assert said.startswith("### pipeline my-model, dev, against HEAD: 1 parameter changed")
    assert "| ~ | `TrainingInstanceType` | `ml.m5.xlarge` | `ml.c5.xlarge` |" in said
    assert "| Train | cached |" in said  # another instance gives no other result


def test_against_what_git_does_not_have(committed: Path, run_in: RunIn) -> None:
    unknown = run_in(committed, "sagegate", "plan", "--against", "no-such-branch", check=False)
    assert unknown.returncode == 2
    assert "knows no revision 'no-such-branch'" in unknown.stderr and len(unknown.stderr.strip().splitlines()) == 1
    option = run_in(committed, "sagegate", "plan", "--against=--output=x", check=False)
    assert option.returncode == 2 and "knows no revision" in option.stderr and not (committed / "x").exists()
    git(committed, "rm", "--quiet", "-r", "--cached", "data")
    git(committed, "commit", "--quiet", "--message=data elsewhere")
    said = run_in(committed, "sagegate", "plan", "--against", "HEAD").stdout
    assert "data/ is not in HEAD: its files are not compared" in said
    edit(committed, "mlops.toml", "[gate]", "[gate]\nnonsense = 1")
    git(committed, "commit", "--quiet", "--all", "--message=not valid")
    edit(committed, "mlops.toml", "[gate]\nnonsense = 1", "[gate]")
    said = run_in(committed, "sagegate", "plan", "--against", "HEAD").stdout
    assert "all counts as new" in said and "gate.nonsense" in said and re.search(r"^\+ +Train", said, re.MULTILINE)


def test_a_project_below_the_repositorys_top(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=first")
    edit(project, "mlops.toml", "max_depth = 4", "max_depth = 6")
    edit(project, "data/breast_cancer.csv", "malignant", "benign")
    said = run_in(project, "sagegate", "plan", "--against", "main").stdout
    assert re.search(r"^~ +max_depth +4 +6", said, re.MULTILINE) and "~  data/breast_cancer.csv" in said, said
    assert "all counts as new" not in said


def test_outside_of_git(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    shutil.rmtree(project / ".git", ignore_errors=True)
    done = run_in(
        project, "sagegate", "plan", "--against", "HEAD", check=False, env={"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    )
    assert done.returncode == 2 and "not a git repository" in done.stderr
