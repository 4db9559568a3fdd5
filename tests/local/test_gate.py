"""The gate rejects worse models, and fails where an evaluation, a metric or a champion is broken."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Bake, RunIn

REJECTED = 3
WORSE = ("--set", "num_round=2", "--set", "max_depth=1", "--set", "eta=0.5")
OPEN = {"binary_classification": "0.6", "regression": "75"}  # a metric where higher is better, and one where lower is


def models(run_in: RunIn, project: Path) -> list[str]:
    """Return the registered versions that `sagegate models` lists."""
    lines = run_in(project, "sagegate", "models").stdout.splitlines()
    return [line.split()[0] for line in lines if line[:1].isdigit()]


@pytest.mark.parametrize("problem_type", OPEN)
def test_a_candidate_worse_than_the_champion_is_rejected(bake: Bake, run_in: RunIn, problem_type: str) -> None:
    project = bake(problem_type=problem_type)
    open_gate = ("--set", f"GateThreshold={OPEN[problem_type]}")

    # A weak first model is approved, so it is the champion; a better one beats it.
    run_in(project, "sagegate", "run", *open_gate, *WORSE)
    run_in(project, "sagegate", "approve", "1", "--reason", "the first")
    better = run_in(project, "sagegate", "run", *open_gate).stdout
    assert "model 2 registered" in better and "v1" in better
    run_in(project, "sagegate", "approve", "2", "--reason", "better")

    # The weak one again is rejected now, with both numbers in the message; the threshold alone would let it pass.
    worse = run_in(project, "sagegate", "run", *open_gate, *WORSE, check=False)
    assert worse.returncode == REJECTED
    evaluation = json.loads(newest(project, "evaluation.json").read_text())["gate"]
    assert evaluation["champion_version"] == 2 and evaluation["threshold_margin"] >= 0
    line = next(line for line in worse.stdout.splitlines() if "Candidate rejected" in line)
    for key in ("candidate", "champion"):
        assert f"{evaluation[key]:.6g}" in line
    assert models(run_in, project) == ["2", "1"]

    # A model equal to the champion passes.
    assert "model 3 registered" in run_in(project, "sagegate", "run", "--again", *open_gate).stdout

    # If the champion is rejected, the champion before it returns.
    run_in(project, "sagegate", "reject", "2", "--reason", "found a leak")
    assert "Approved · champion" in run_in(project, "sagegate", "models").stdout.splitlines()[-1]
    serve = run_in(project, "sagegate", "serve", "2", check=False)
    assert serve.returncode == 1 and "found a leak" in serve.stderr


def newest(project: Path, name: str, where: str = ".mlops/s3") -> Path:
    return max((project / where).rglob(name), key=lambda file: file.stat().st_mtime_ns)


def test_a_candidate_below_the_threshold_is_rejected(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    settings = project / "mlops.toml"
    settings.write_text(settings.read_text().replace("threshold = 0.95", "threshold = 0.9999"))
    done = run_in(project, "sagegate", "run", check=False)
    assert done.returncode == REJECTED
    assert "Candidate rejected: auc" in done.stdout and "0.9999" in done.stdout
    assert models(run_in, project) == []


def test_a_changed_champion_artifact_fails_the_run(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    run_in(project, "sagegate", "run")
    run_in(project, "sagegate", "approve", "1", "--reason", "fine")
    newest(project, "champion/model.tar.gz").write_bytes(b"something else")
    done = run_in(project, "sagegate", "run", "--again", check=False)
    assert done.returncode == 1
    assert "champion" in done.stdout.splitlines()[-1]


def test_a_lost_champion_is_written_again_from_the_registry(bake: Bake, run_in: RunIn) -> None:
    """Not even a forged marker lets a candidate pass without a comparison."""
    project = bake()
    run_in(project, "sagegate", "run")
    run_in(project, "sagegate", "approve", "1", "--reason", "fine")
    champion = newest(project, "champion.json").parent
    shutil.rmtree(champion)
    champion.mkdir()
    (champion / "no-champion.json").write_text("{}")
    done = run_in(project, "sagegate", "run", "--set", "GateThreshold=0.6", *WORSE, check=False)
    assert done.returncode == REJECTED
    assert "the champion was lost: model 1, the newest approved one, is the champion again" in done.stdout
    assert "champion v1 has" in done.stdout and not (champion / "no-champion.json").exists()


def test_a_model_shows_its_threshold_and_what_its_run_overrode(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    run_in(project, "sagegate", "run", "--set", "GateThreshold=0.6", "--set", "max_depth=3")
    for command in (["models"], ["models", "1"], ["approve", "1", "--reason", "fine"]):
        shown = run_in(project, "sagegate", *command).stdout
        assert "0.6" in shown and "GateThreshold=0.6" in "".join(shown.split()), command


def test_a_gate_that_contradicts_itself_is_not_approved(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    run_in(project, "sagegate", "run")
    file = newest(project, "evaluation.json")
    evaluation = json.loads(file.read_text())
    file.write_text(json.dumps(evaluation | {"gate": evaluation["gate"] | {"passed": False}}))
    done = run_in(project, "sagegate", "approve", "1", "--reason", "fine", check=False)
    assert done.returncode == 1 and "passed is false, which the gate's own numbers contradict" in done.stderr
    assert len(done.stderr.splitlines()) == 1


WRITE = (
    "import sys, pathlib\nfolder = pathlib.Path(sys.argv[sys.argv.index('--output') + 1])\n"
    "folder.mkdir(exist_ok=True)\n(folder / 'evaluation.json').write_text({!r})\n"
)
BREAKS = {
    "nan": (WRITE.format('{"gate": {"value": NaN}}'), "Step Gate failed", "NaN, which is not JSON"),
    "missing-metric": (WRITE.format('{"gate": {}}'), "Step Gate failed", "there is no 'threshold_margin'"),
    "not-json": (WRITE.format('{"gate": {}'), "Step Gate failed", "is not JSON"),
    "nothing": ("print('forgot to write')\n", "Step Gate failed", "evaluation.json) does not exist"),
    "error": ("{}['b']\n", "Step Evaluate failed", "KeyError: 'b'"),
}


@pytest.mark.parametrize(("script", "failed", "message"), BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_evaluation_fails_the_execution(
    bake: Bake, run_in: RunIn, script: str, failed: str, message: str
) -> None:
    project = bake()
    (project / "model" / "evaluate.py").write_text(script)
    done = run_in(project, "sagegate", "run", check=False)
    assert done.returncode == 1, done.stdout
    assert message in done.stdout and failed in done.stdout and "Traceback" not in done.stderr
    assert models(run_in, project) == []
