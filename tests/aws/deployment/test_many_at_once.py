"""A served model that many ask at once, from the first request on; and whose fault a failed request is."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import without_shell_settings

from deployment.lab import BUCKET, GOOD, Snapshot

MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sagegate.local.server import Model
folder = Path(sys.argv[1])
sys.setswitchinterval(1e-6)  # threads take turns as often as they can
served, body = Model(folder), (folder / "sample_request.json").read_bytes()
table = served.code.read_rows(body, "application/json")
with ThreadPoolExecutor(8) as pool:
    print(len(set(pool.map(lambda _: str(served.code.predict(table, served.model)), range(1000)))))
"""
FAULTY = """
class BadRequest(Exception): status = 400
class Other(Exception): status = None
def model_fn(folder): return None
def input_fn(body, kind): {input}
def predict_fn(rows, model): {predict}
def output_fn(prediction, accept): {output}
"""
ONE = """
import sys, threading, urllib.error, urllib.request
from pathlib import Path
from sagegate.local.server import Model, Server
server = Server(0, Model(Path(sys.argv[1])))
threading.Thread(target=server.serve_forever, daemon=True).start()
try:
    urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/invocations", data=b"1")
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


def run(python: Path, project: Path, program: str, folder: Path) -> str:
    """What a program prints that is given an artifact's folder."""
    env = without_shell_settings({"PYTHONPATH": str(ROOT / "src")})
    done = subprocess.run([str(python), "-c", program, str(folder)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_many_requests_at_once_get_one_answer(snapshot: Snapshot, project_env: Path, tmp_path: Path) -> None:
    uri = snapshot.packages[GOOD - 1]["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    with tarfile.open(fileobj=io.BytesIO(snapshot.objects[uri.removeprefix(f"s3://{BUCKET}/")])) as tar:
        tar.extractall(tmp_path, filter="data")
    assert run(project_env, snapshot.project, MANY, tmp_path) == "1"


@pytest.mark.parametrize("where", ["input", "predict", "output"])
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        ("ValueError", '500 {"error": "ValueError: no"}'),
        ("Other", '500 {"error": "Other: no"}'),
        ("BadRequest", '400 {"error": "no"}'),
    ],
)
def test_only_an_error_that_says_so_is_the_caller_s(
    snapshot: Snapshot, project_env: Path, tmp_path: Path, where: str, error: str, answer: str
) -> None:
    """An alarm counts 5xx: XGBoost's errors are ValueErrors, and must not look like bad requests."""
    lines = {"input": "return body", "predict": "return rows", "output": "return 'x'"}
    text = FAULTY.format(**lines | {where: f"raise {error}('no')"})
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(text, encoding="utf-8")
    assert run(project_env, snapshot.project, ONE, tmp_path) == answer
