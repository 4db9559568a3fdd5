"""The notebook of a generated project: it shows the user's data and the pipeline's numbers; a hook removes outputs."""

import json
import re
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import PROJECT_FOLDER, Bake, RunIn, run_module
from made_data import as_csv, churn
from test_hooks import hook

NOTEBOOK = Path("notebooks", "explore.ipynb")
COMMITTED = (ROOT / PROJECT_FOLDER / NOTEBOOK).read_bytes()


def outputs(notebook: Path) -> str:
    """Return what the cells of a notebook show, as text."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join("".join(one.get("text") or one["data"]["text/plain"]) for one in shown)


def test_it_shows_own_data_the_metrics_of_the_pipeline_and_the_last_execution(
    bake: Bake, run_in: RunIn, project_env: Path, sdk_env: Path, tmp_path: Path
) -> None:
    project = bake()
    (tmp_path / "churn.csv").write_text(as_csv(churn()), encoding="utf-8")
    run_in(project, "sagegate", "data", str(tmp_path / "churn.csv"), "--target", "churned")
    ran = run_in(project, "sagegate", "run").stdout
    run_module(sdk_env, project, "jupyter", "execute", "--inplace", str(NOTEBOOK), env={"HOME": str(tmp_path)})

    shown = outputs(project / NOTEBOOK)
    assert "binary_classification: 1500 rows" in shown
    (log,) = (project / ".mlops" / "executions").rglob("Train*.log")
    trained = dict(re.findall(r"validation-(\w+)=([0-9.]+)", log.read_text().partition("kept the model with")[2]))
    assert len(trained) > 5
    for name, value in trained.items():
        (found,) = re.findall(rf"^{name} +([0-9.]+) ", shown, re.MULTILINE)
        assert float(found) == pytest.approx(float(value), abs=1e-5)
    (execution,) = re.findall(r"execution (\w+)", ran)
    assert re.search(rf"{execution} +Passed", shown)

    assert hook(project_env, project, "nbstripout", str(NOTEBOOK)).returncode == 0
    assert (project / NOTEBOOK).read_bytes() == COMMITTED


def test_the_committed_notebook_has_no_outputs_and_the_hook_removes_planted_ones(
    own_project: Path, project_env: Path
) -> None:
    text = COMMITTED.decode()
    planted = text.replace('"outputs": []', '"outputs": [{"name": "stdout", "output_type": "stream", "text": ["a"]}]')
    planted = planted.replace('"execution_count": null', '"execution_count": 3')
    assert planted.count('["a"]') == planted.count('"execution_count": 3') == text.count('"cell_type": "code"') > 5
    (own_project / NOTEBOOK).write_text(planted, encoding="utf-8")
    assert hook(project_env, own_project, "nbstripout", str(NOTEBOOK)).returncode == 0
    assert (own_project / NOTEBOOK).read_bytes() == COMMITTED
