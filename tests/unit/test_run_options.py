"""Options of `sagegate run` from environment variables, as a workflow's form sets them, and `sagegate --version`."""

import json
import re
from pathlib import Path

from conftest import Bake, RunIn


def test_variables_set_parameters_and_the_reason(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    given = {"SAGEGATE_SET": "num_round=20\nmax_depth=2", "SAGEGATE_REASON": "fewer trees,\n$(and shallow)"}
    output = run_in(project, "sagegate", "run", env=given).stdout
    execution = re.search(r"execution ([a-z0-9]{12})", output)
    assert execution
    shown = run_in(project, "sagegate", "status", execution[1]).stdout
    assert "reason: fewer trees, $(and shallow)" in shown
    record = json.loads((project / ".mlops" / "executions" / execution[1] / "execution.json").read_text())
    parameters = {parameter["Name"]: parameter["Value"] for parameter in record["PipelineParameters"]}
    assert (parameters["num_round"], parameters["max_depth"]) == ("20", "2")


def test_empty_variables_change_nothing(bake: Bake, run_in: RunIn) -> None:
    output = run_in(bake(), "sagegate", "run", env={"SAGEGATE_SET": "", "SAGEGATE_REASON": ""}).stdout
    assert "model 1 registered" in output


def test_version_without_package_metadata(run_in: RunIn, tmp_path: Path) -> None:
    """Tests run sagegate from its source, which is not installed."""
    assert run_in(tmp_path, "sagegate", "--version").stdout.startswith("sagegate")
