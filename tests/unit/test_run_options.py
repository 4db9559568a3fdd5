"""What a workflow's form gives `sagegate run` by variables: parameters and a reason."""

import json
import re

from conftest import Bake, RunIn


def test_variables_give_parameters_and_a_reason(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    given = {"SAGEGATE_SET": "num_round=20\nmax_depth=2", "SAGEGATE_REASON": "fewer trees,\n$(and shallow)"}
    said = run_in(project, "sagegate", "run", env=given).stdout
    execution = re.search(r"execution ([a-z0-9]{12})", said)
    assert execution
    shown = run_in(project, "sagegate", "status", execution[1]).stdout
    assert "reason: fewer trees, $(and shallow)" in shown
    record = json.loads((project / ".mlops" / "executions" / execution[1] / "execution.json").read_text())
    parameters = {parameter["Name"]: parameter["Value"] for parameter in record["PipelineParameters"]}
    assert (parameters["num_round"], parameters["max_depth"]) == ("20", "2")


def test_empty_variables_are_no_parameters(bake: Bake, run_in: RunIn) -> None:
    said = run_in(bake(), "sagegate", "run", env={"SAGEGATE_SET": "", "SAGEGATE_REASON": ""}).stdout
    assert "model 1 registered" in said
