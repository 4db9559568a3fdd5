"""[tuning] in mlops.toml: the project trains several models, and the best one goes through the gate."""

import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import Bake, Once, RunIn, make_place, run_module, without_shell_settings
from places import Place, execution

from sagegate.files import Json


def switch_on(project: Path, jobs: int = 4) -> None:
    """Uncomment [tuning], as the comment above it says."""
    file = project / "mlops.toml"
    text = re.sub(r"(?m)^#(?=[a-z\[]|$)", "", file.read_text(encoding="utf-8"))
    assert "\n[tuning]\n" in text and "\njobs = 12\nparallel_jobs = 3" in text
    file.write_text(text.replace("jobs = 12\nparallel_jobs = 3", f"jobs = {jobs}\nparallel_jobs = 2"), encoding="utf-8")


@pytest.fixture(scope="session")
def compiled(baked: Bake, sdk_env: Path, once: Once) -> Path:
    """A project with [tuning], compiled. Read-only."""

    def make(folder: Path) -> None:
        shutil.copytree(baked(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
        switch_on(folder)
        assert "changed: commit it" in run_module(sdk_env, folder, "sagegate", "compile").stdout

    return once("tuned", make)


@pytest.fixture
def tuned(compiled: Path, tmp_path: Path) -> Path:
    """A project with [tuning] that the test may change."""
    return Path(shutil.copytree(compiled, tmp_path / "my-model"))


@pytest.fixture(params=["local", "dev"])
def tuned_place(request: pytest.FixtureRequest, tuned: Path, run_in: RunIn) -> Place:
    fake_aws = request.getfixturevalue("fake_aws") if request.param == "dev" else None
    return make_place(request.param, tuned, run_in, fake_aws)


def definition(project: Path) -> tuple[Json, dict[str, Json]]:
    """Return the compiled definition and its steps by name."""
    found: Json = json.loads((project / "pipeline" / "definition.json").read_text(encoding="utf-8"))
    return found, {step["Name"]: step for step in found["Steps"]}


def test_a_search_takes_the_place_of_the_training(tuned: Path, run_in: RunIn) -> None:
    document, steps = definition(tuned)
    assert list(steps) == ["Preprocess", "Tune", "Evaluate", "Gate"]
    config = steps["Tune"]["Arguments"]["HyperParameterTuningJobConfig"]
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2}
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Minimize", "MetricName": "validation-log_loss"}
    job = steps["Tune"]["Arguments"]["TrainingJobDefinition"]
    assert job["RoleArn"] == {"Get": "Parameters.RoleArn"}
    assert job["ResourceConfig"]["VolumeSizeInGB"] == {"Get": "Parameters.TrainingVolumeSizeInGB"}
    assert job["StoppingCondition"]["MaxRuntimeInSeconds"] == {"Get": "Parameters.MaxRuntimeInSeconds"}
    assert job["StaticHyperParameters"]["sagemaker_submit_directory"] == {"Get": "Parameters.TrainCode"}
    searched = {"max_depth", "eta", "min_child_weight"}
    assert searched.isdisjoint(job["StaticHyperParameters"]) and "subsample" in job["StaticHyperParameters"]
    assert searched.isdisjoint(parameter["Name"] for parameter in document["Parameters"])
    assert "ok: 6 steps" in run_in(tuned, "sagegate", "check").stdout
    run_in(tuned, "pytest", "tests/test_gate.py", "tests/test_layers.py", "-p", "no:cacheprovider")


def test_a_definition_without_the_search_is_stale(tuned: Path, run_in: RunIn) -> None:
    settings = tuned / "mlops.toml"
    for old, new in (("max = 8 }", "max = 9 }"), ("jobs = 4", "jobs = 5"), ("[tuning]", "[tuning_]")):
        before = settings.read_text(encoding="utf-8")
        settings.write_text(before.replace(old, new, 1), encoding="utf-8")
        done = run_in(tuned, "sagegate", "check", check=False)
        expected = "stale (pipeline.py, [tuning]" if new != "[tuning_]" else "mlops.toml: tuning_: no such key"
        assert done.returncode and expected in done.stderr and len(done.stderr.splitlines()) == 1
        settings.write_text(before, encoding="utf-8")


def test_sagemaker_s_limits_hold_for_a_search(tuned: Path, run_in: RunIn) -> None:
    file = tuned / "pipeline" / "definition.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"MinValue": "2"', f'"MinValue": "{"2" * 257}"'), encoding="utf-8")
    done = run_in(tuned, "sagegate", "check", check=False)
    assert (
        "step Tune: HyperParameterTuningJobConfig.ParameterRanges.IntegerParameterRanges[0].MinValue: 257"
        in done.stderr
    )


def test_the_best_model_is_registered_with_its_hyperparameters(tuned_place: Place) -> None:
    first = tuned_place.run("run")
    assert re.search(r"Succeeded +Tune ", first) and "model 1 registered" in first
    found = re.search(
        r"tuning: validation-log_loss [\d.]+ of 4 models: eta=(\S+) max_depth=(\d) min_child_weight=", first
    )
    assert found, first
    shown = tuned_place.run("models", "1")
    assert f"eta {float(found[1])}, " in shown and f"max_depth {found[2]}, " in shown and "num_round 200" in shown
    if tuned_place.name == "dev":
        assert re.search(r"billed: \d+ instance seconds \(Preprocess \d+, Tune \d", first)
        assert "billed s" in tuned_place.run("status", execution(first))
    again = tuned_place.run("run", "--again")
    assert re.search(r"Tune +\d\.\d\d s  cached", again) and found[0] in again and "model 2 registered" in again
    tuned_place.run("approve", "1", "--reason", "the best of four")
    other = tuned_place.run("run", "--set", "num_round=20")
    assert "champion v1" in other and "cached" not in re.findall(r"Tune .*", other)[0]
    said = tuned_place.run("run", "--set", "max_depth=3", code=2).strip()
    assert "--set max_depth: [tuning] searches the best value" in said and len(said.splitlines()) == 1
    assert re.search(r"Succeeded", tuned_place.run("run", "--from", "Evaluate"))


def test_a_search_without_any_model_is_explained(tuned_place: Place) -> None:
    tuned_place.edit("model/train.py", "def main(", "raise RuntimeError('the disc is on fire')\n\n\ndef main(")
    failed = tuned_place.run("run", code=1)
    assert "Tune" in failed and "RuntimeError: the disc is on fire" in failed
    assert "the disc is on fire" in tuned_place.run("status", execution(failed))
    explained = tuned_place.run("explain")
    assert "RuntimeError: the disc is on fire, raised at model/train.py, line" in explained
    assert "RuntimeError: the disc is on fire" in explained.partition("cause")[0]


def test_a_metric_that_nothing_prints_fails_the_search(tuned: Path, run_in: RunIn) -> None:
    file = tuned / "pipeline" / "definition.json"
    file.write_text(file.read_text().replace("validation-log_loss", "validation-gini"), encoding="utf-8")
    done = run_in(tuned, "sagegate", "run", check=False)
    assert (
        done.returncode == 1
        and "no line of the log has a number that the Regex of validation-gini finds" in done.stdout
    )


def test_the_page_about_tuning_works_as_written(bake: Bake, sdk_env: Path) -> None:
    project = bake(problem_type="regression")
    page = (ROOT / "docs" / "how-to" / "tune-hyperparameters.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?s)```sh\n(.*?)```", page)]
    uv = f'uv() {{ shift 2; "{sdk_env}" -m sagegate "$@"; }}\n'  # uv run sagegate ...
    env = without_shell_settings({"PYTHONPATH": str(ROOT / "src")})
    command = ["bash", "-e", "-c", uv + "\n".join(blocks)]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tuning: validation-rmse " in done.stdout and "of 12 models: " in done.stdout
    values = [float(line.split()[0]) for line in done.stdout.splitlines() if "'max_depth': '" in line]
    assert len(values) == 12 and values == sorted(values)


def test_a_project_of_before_says_what_it_lacks(own_project: Path, sdk_env: Path) -> None:
    """Its build() has two arguments. Without [tuning] it compiles as before."""
    script = own_project / "pipeline" / "pipeline.py"
    text = script.read_text(encoding="utf-8")
    old = re.sub(
        r"\n    hyperparameter_types: .*\n", "hyperparameter_types: dict[str, str], session: PipelineSession", text
    )
    assert old != text
    script.write_text(
        old.replace("    if tuning is None:", "    tuning = None\n    if tuning is None:"), encoding="utf-8"
    )
    run_module(sdk_env, own_project, "sagegate", "compile")
    assert set(definition(own_project)[1]) == {"Preprocess", "Train", "Evaluate", "Gate"}
    switch_on(own_project)
    done = run_module(sdk_env, own_project, "sagegate", "compile", check=False)
    assert "build() takes no third argument `tuning`: `cruft update` brings it, or remove [tuning]" in done.stderr
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
