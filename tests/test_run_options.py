"""What a workflow's form gives `mlops run` by variables: parameters and a reason."""

import re

from conftest import Bake, RunIn


def test_variables_give_parameters_and_a_reason(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    given = {"MLOPS_SET": "num_round=20\nmax_depth=2", "MLOPS_REASON": "fewer trees,\n$(and shallow)"}
    said = run_in(project, "mlops", "run", env=given).stdout
    execution = re.search(r"execution ([a-z0-9]{12})", said)
    assert execution
    shown = run_in(project, "mlops", "status", execution[1]).stdout
    assert "reason: fewer trees, $(and shallow)" in shown
    compared = run_in(project, "mlops", "models", "--compare").stdout
    assert re.search(rf"{execution[1]} .* 2 ", compared) and " 20 " in compared


def test_empty_variables_are_no_parameters(bake: Bake, run_in: RunIn) -> None:
    said = run_in(bake(), "mlops", "run", env={"MLOPS_SET": "", "MLOPS_REASON": ""}).stdout
    assert "model 1 registered" in said
