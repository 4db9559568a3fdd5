"""The folders of jobs: links in outputs, and leftovers of killed executions."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from local_lab import Lab, write

from sagegate.errors import SagegateError
from sagegate.local.state import Execution

LINKS = """
import os, pathlib
base = pathlib.Path(__file__).parents[2]
out = base / "output" / "out"
(base / "elsewhere").write_text("elsewhere")
(out / "b.txt").write_text("inside")
os.symlink(base / "elsewhere", out / "absolute.txt")
os.symlink("b.txt", out / "c.txt")
os.symlink(out / "b.txt", out / "a.txt")
os.symlink(base / "nothing", out / "dangling.txt")
os.symlink(base, out / "folder")
"""


def test_links_in_outputs_become_the_content_of_their_files(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", LINKS))
    assert done.status == "Succeeded", done.reason
    objects = lab.store.objects(lab.output(done, "Step"))
    found = {name: file.read_text() for name, file in objects if not file.is_symlink()}
    assert found == {"a.txt": "inside", "absolute.txt": "elsewhere", "b.txt": "inside", "c.txt": "inside"}


def test_job_folders_of_killed_executions_are_removed(lab: Lab) -> None:
    """An execution without a lock has no process."""
    running = Execution.create(lab.root / ".mlops" / "executions", "arn:p", {}, {})
    folder = lab.root / ".mlops" / "jobs" / f"pipelines-{running.id}-Some-Step-0123456789"
    other = folder.with_name("unrelated")
    for made in (folder, other):
        made.mkdir(parents=True)
        (made / "data").touch()
    assert lab.run(lab.processing("Step", write("''"))).status == "Succeeded"
    assert (folder / "data").exists()
    running.finish("Failed")  # releases the lock, as the death of its process does
    assert lab.run(lab.processing("Step", write("''"))).status == "Succeeded"
    assert not folder.exists() and (other / "data").exists()


def test_a_job_folder_that_cannot_be_cleared_fails_the_step(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    done = lab.run(lab.processing("Step", "raise SystemExit('first')"))
    lab.client.retry_pipeline_execution(PipelineExecutionArn=done.arn)
    reason = lab.ended(done.arn).reason
    assert reason.startswith(f"Step Step failed: {lab.root}/.mlops/jobs/pipelines-")
    assert reason.endswith(": the files of an earlier attempt cannot be deleted")


@pytest.mark.parametrize(
    "path",
    [
        "{own}",
        "/opt/ml/../../{own}",
        "/opt/ml/processing/../../..{own}",
        "/opt/ml",
        "/opt/ml/",
        "relative",
        "/opt/mlx/a",
    ],
)
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_path_outside_the_job_touches_no_file_of_the_user(lab: Lab, tmp_path: Path, path: str, side: str) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("years of work")
    step = lab.processing("Out", "", {"data": lab.put("a/thesis.txt", "other")})
    given: Any = path.format(own=own)
    arguments = step["Arguments"]
    if side == "input":
        arguments["ProcessingInputs"][1]["S3Input"]["LocalPath"] = given
    else:
        arguments["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] = given
    with pytest.raises(SagegateError, match=r"step Out: LocalPath .*: a job's files are below /opt/ml"):
        lab.run(step)
    # From a parameter, only the job sees the path.
    if side == "output":
        arguments["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] = {"Get": "Parameters.Path"}
        done = lab.run(step, parameters=[{"Name": "Path", "Type": "String", "DefaultValue": given}])
        assert done.status == "Failed" and "a job's files are below /opt/ml" in done.reason
    assert (own / "thesis.txt").read_text() == "years of work" and len(list(own.iterdir())) == 1


def test_names_lead_out_of_no_folder(lab: Lab) -> None:
    with pytest.raises(SagegateError, match=r"the step's name '\.\./x' must be 1 to 64 letters, digits, - and _"):
        lab.run(lab.processing("../x", ""))
    group = {"Name": "R", "Type": "RegisterModel", "Arguments": {"ModelPackageGroupName": "../../x"}}
    done = lab.run(group)
    assert done.status == "Failed" and "ModelPackageGroupName '../../x' must match" in done.reason
