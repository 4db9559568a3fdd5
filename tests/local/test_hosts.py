"""Jobs on several hosts, through the command line, on this machine and on AWS: what `instance_count = 2` gives."""

import re

import pytest
from places import Place

RESOURCES = {"Preprocess": '[processing]\ninstance_type = "ml.m5.large"', "Train": '"ml.m5.xlarge"'}


@pytest.mark.parametrize("step", RESOURCES)
def test_two_hosts_make_one_model_and_say_what_each_did(place: Place, step: str) -> None:
    one = f"{RESOURCES[step]}\ninstance_count = 1"
    place.edit(f"environments/{place.name}.toml", one, one[:-1] + "2")
    said = place.run("run")
    assert "model 1 registered" in said, said
    if place.name == "local":
        (execution,) = (place.project / ".mlops" / "executions").iterdir()
        logs = {file.name: file.read_text() for file in (execution / "logs").glob(f"{step}.*")}
        assert sorted(logs) == [f"{step}.algo-1.log", f"{step}.algo-2.log"]
        if step == "Train":
            assert "the first host writes the model" in logs["Train.algo-2.log"]
            assert "kept" in logs["Train.algo-1.log"]


def test_a_host_that_is_lost_fails_the_run_and_leaves_no_model(place: Place) -> None:
    one = f"{RESOURCES['Train']}\ninstance_count = 1"
    place.edit(f"environments/{place.name}.toml", one, one[:-1] + "2")
    lost = 'import os; os._exit(9) if epoch == 3 and os.environ["SM_CURRENT_HOST"] == "algo-2" else None'
    place.edit("model/estimator.py", "return False", f"{lost}\n        return False")
    said = place.run("run", code=1)
    assert re.search(r"Step Train failed: .*on algo-[12]", said) or "AlgorithmError" in said, said
    assert "no model is registered yet" in place.run("models")
