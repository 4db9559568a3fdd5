"""Pipelines that differ from the template's (compiled_elsewhere/), compiled by the SageMaker SDK v3 and run locally."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import Once, without_shell_settings
from local_lab import BUCKET, Lab, Outcome

from sagegate.files import Json, archive, files_under
from sagegate.pipeline.shapes import argument_errors
from sagegate.pipeline.validate import reference_errors

COMPILED_ELSEWHERE = ROOT / "tests" / "local" / "compiled_elsewhere"
OFFLINE = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # nothing answers there
    "AWS_MAX_ATTEMPTS": "1",
    "SAGEMAKER_VALIDATE_ROLE": "false",
}
HANDLER = """
def handler(event, context):
    stars = 5 if event["distance"] < event["target"] else 1
    return {"headline": event["model"].rsplit("/", 3)[1] + " " + "".join(event["words"]), "stars": stars}
"""


@pytest.fixture(scope="session")
def compiled(sdk_env: Path, once: Once) -> Path:
    """A folder with the SDK's output: NAME.json for each pipeline, and its uploads in `store/`."""

    def compile_all(folder: Path) -> None:
        command = [str(sdk_env), str(COMPILED_ELSEWHERE / "pipeline.py"), str(folder / "store"), str(folder)]
        done = subprocess.run(command, env=without_shell_settings(OFFLINE), capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr

    return once("compiled", compile_all)


def run(lab: Lab, compiled: Path, name: str, **parameters: str) -> Outcome:
    """Run a compiled pipeline on the SDK's uploads and some rows."""
    shutil.copytree(compiled / "store", lab.store.folder, dirs_exist_ok=True)
    lab.put("rows/rows.csv", "1\n2\nthree\n4\n")
    lab.put("model.tar.gz", archive(files_under(COMPILED_ELSEWHERE / "model")))
    definition = json.loads((compiled / f"{name}.json").read_text())
    given = [{"Name": key, "Value": value} for key, value in parameters.items()]
    return lab.run(*definition["Steps"], parameters=definition["Parameters"], PipelineParameters=given)


def add_announce_function(lab: Lab) -> None:
    folder = lab.root / "infra" / "announce"
    folder.mkdir(parents=True)
    (folder / "handler.py").write_text(HANDLER)


def model(lab: Lab, uri: str) -> Json:
    """Return the content of the model at `uri`."""
    with tarfile.open(lab.store.objects(uri)[0][1]) as tar:
        stream = tar.extractfile("model.json")
        assert stream
        found: Json = json.load(stream)
        return found


@pytest.mark.parametrize("name", ["search", "hard-paths"])
def test_definitions_of_the_sdk_pass_the_checks(compiled: Path, name: str) -> None:
    definition = json.loads((compiled / f"{name}.json").read_text())
    assert [*reference_errors(definition), *argument_errors(definition)] == []


def test_a_search_with_lambda_conditions_and_transform_runs(lab: Lab, compiled: Path) -> None:
    add_announce_function(lab)
    done = run(lab, compiled, "search")
    assert done.status == "Succeeded", done.reason
    started = {"Prepare", "Once", "Tune", "Describe", "IsGood", "IsBetter", "Announce", "Model", "Batch", "Print"}
    assert set(done.steps) == started

    # The search runs four jobs, and get_top_model_s3_uri names the artifact of the best one.
    names = [uri for uri, _ in lab.store.objects(f"s3://{BUCKET}/models")]
    distances = [model(lab, f"s3://{BUCKET}/models/{uri}")["distance"] for uri in names if "Tune" in uri]
    assert len(distances) == 4
    found = json.loads(lab.get(lab.output(done, "Describe", "report") + "/findings.json"))
    best = found["words"]["best"]
    uri = f"s3://{BUCKET}/models/{best}/output/model.tar.gz"
    assert found["words"]["uri"] == uri and found["words"]["second"] not in ("", best)
    assert found["models"][0] == {"name": "best", "file name": "model.json", **model(lab, uri)}
    assert found["models"][0]["distance"] == found["least"] == min(distances)
    assert found["models"][1]["note"] == "two words" and found["models"][1]["rows"] == 3

    # The batch transform uses that model, and the Lambda's outputs reach the last step.
    width = model(lab, uri)["width"]
    assert lab.get(f"s3://{BUCKET}/answers/rows.csv.out").split() == [str(n * width) for n in (1, 2, 4)]
    words = lab.get(lab.output(done, "Print", "page") + "/words.txt").splitlines()
    assert words == [f"{best} ab 5", "model.json"]


@pytest.mark.parametrize("parameters", [{"Limit": "0.0"}, {"Mode": "short"}])
def test_the_other_branch_fails_with_its_message(lab: Lab, compiled: Path, parameters: dict[str, str]) -> None:
    done = run(lab, compiled, "search", **parameters)
    assert done.status == "Failed" and done.reason.startswith("not good: ")
    assert done.steps["Never"]["Metadata"]["Fail"]["ErrorMessage"] == done.reason
    assert "Announce" not in done.steps and "Model" not in done.steps


@pytest.mark.skipif(sys.platform != "linux", reason="/opt/ml is mounted by Linux namespaces")
def test_scripts_with_hard_coded_paths_and_the_sdk_s_drivers_run(lab: Lab, compiled: Path) -> None:
    done = run(lab, compiled, "hard-paths")
    assert done.status == "Succeeded", done.reason
    title, _, text = lab.get(lab.output(done, "Describe", "report") + "/report.txt").partition("\n")
    assert title == "['--title', 'a b']"
    assert json.loads(text) == {
        "width": 3,
        "rate": 0.5,
        "target": 7,
        "note": "two words",
        "rows": 3,
        "distance": 5.5,
    }
