"""The estimator of a new project, those of docs/how-to/another-estimator.md, weights of classes, and the decision."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import Bake, RunIn, run_module

HOW_TO = ROOT / "docs" / "how-to"


def test_xgboost_is_the_estimator_of_a_new_project(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    shutil.copyfile(Path(__file__).with_name("xgboost_in_project.py"), project / "tests" / "test_xgboost.py")
    run_in(project, "pytest", "tests/test_xgboost.py")


@pytest.mark.parametrize("title", ["Logistic regression", "Random forest", "LightGBM", "PyTorch"])
def test_another_estimator_is_one_file_and_its_hyperparameters(
    bake: Bake, request: pytest.FixtureRequest, project_env: Path, title: str
) -> None:
    """The project's own tests pass with each; those with a library of its own are compiled and run as well."""
    python = project_env
    if title == "PyTorch":
        if not (given := os.environ.get("PYTORCH_PYTHON")):
            pytest.skip("PyTorch is large: set PYTORCH_PYTHON to a Python that has it beside a project's libraries")
        python = Path(given)
    elif title == "LightGBM":
        python = request.getfixturevalue("sdk_env")
    project = bake()
    _, _, part = (HOW_TO / "another-estimator.md").read_text(encoding="utf-8").partition(f"\n## {title}\n")
    part, _, _ = part.partition("\n## ")
    written = dict(re.findall(r"(?s)`([\w/]+\.\w+)`[^`]*?:\n\n```\w+\n(.*?)```", part))
    assert sum(bool(line) for text in written.values() for line in text.splitlines()) <= 40
    (project / "model" / "estimator.py").write_text(written["model/estimator.py"], encoding="utf-8")
    settings = project / "mlops.toml"
    text = settings.read_text(encoding="utf-8")
    before, rest = text[: text.index("[hyperparameters]")], text[text.index("\n\n", text.index("[hyperparameters]")) :]
    settings.write_text(f"{before}{written['mlops.toml'].rstrip()}{rest}", encoding="utf-8")
    tests = ["tests/test_train.py", "tests/test_report.py"]
    if python != project_env:
        run_module(request.getfixturevalue("sdk_env"), project, "sagegate", "compile")
        assert "model 1 registered" in run_module(python, project, "sagegate", "run").stdout
        tests.append("tests/test_model.py")
    run_module(python, project, "pytest", *tests)


def test_classes_have_weights_and_a_decision_travels_with_the_model(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    page = (HOW_TO / "your-own-data.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"(?s)```toml\n(class_weights.*?)```", page)
    schema, settings = project / "model" / "schema.toml", project / "mlops.toml"
    text = re.sub(r"(?m)^#class_weights.*\n", lambda _: lines, schema.read_text(encoding="utf-8"))
    schema.write_text(text, encoding="utf-8")
    text = settings.read_text(encoding="utf-8").replace('metric = "auc"', 'metric = "recall"')
    settings.write_text(text.replace("threshold = 0.95", "threshold = 0.9"), encoding="utf-8")
    said = run_in(project, "sagegate", "run").stdout
    (file,) = project.glob(".mlops/s3/*/*/executions/*/evaluation/evaluation.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    (threshold,) = found["decision_thresholds"]
    assert threshold < 0.5, "f2 and heavier positive rows let more rows be positive"
    counts = found["binary_classification_metrics"]["confusion_matrix"]["malignant"]
    recall = found["binary_classification_metrics"]["recall"]["value"]
    assert recall == counts["malignant"] / sum(counts.values())
    assert found["baseline_values"]["accuracy"] == pytest.approx(71 / 121)
    assert "but a model that calls every row 'malignant' has recall 1: choose another metric" in " ".join(said.split())
    assert f"a probability above {threshold:.4g}" in file.with_name("report.html").read_text(encoding="utf-8")
