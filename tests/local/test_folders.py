"""The folders of jobs: what is in their outputs, and what is left of them."""

import shutil

import pytest
from local_lab import Lab, write

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


def test_links_in_outputs_become_what_they_point_to(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", LINKS))
    assert done.status == "Succeeded", done.reason
    objects = lab.store.objects(lab.output(done, "Step"))
    found = {name: file.read_text() for name, file in objects if not file.is_symlink()}
    assert found == {"a.txt": "inside", "absolute.txt": "elsewhere", "b.txt": "inside", "c.txt": "inside"}


def test_folders_of_killed_executions_are_removed_and_those_of_others_stay(lab: Lab) -> None:
    """The lock is what tells: a process that was killed holds none any more."""
    running = Execution.create(lab.root / ".mlops" / "executions", "arn:p", {}, {})
    folder = lab.root / ".mlops" / "jobs" / f"pipelines-{running.id}-Some-Step-0123456789"
    other = folder.with_name("of-somebody-else")
    for made in (folder, other):
        made.mkdir(parents=True)
        (made / "data").touch()
    assert lab.run(lab.processing("Step", write("''"))).status == "Succeeded"
    assert (folder / "data").exists()
    running._lock_stream.close()
    assert lab.run(lab.processing("Step", write("''"))).status == "Succeeded"
    assert not folder.exists() and (other / "data").exists()


def test_an_attempt_s_folder_that_cannot_be_removed_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    done = lab.run(lab.processing("Step", "raise SystemExit('first')"))
    lab.client.retry_pipeline_execution(PipelineExecutionArn=done.arn)
    reason = lab.ended(done.arn).reason
    assert reason.startswith(f"Step Step failed: {lab.root}/.mlops/jobs/pipelines-")
    assert reason.endswith(": the files of an earlier attempt cannot be deleted")
