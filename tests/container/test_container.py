"""SageMaker's own container code trains and serves the project's scripts, cut off from every package index.

The environment has the versions of the image (sagemaker-xgboost 3.2): its libraries, pip, setuptools and no wheel.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clean_copy import ROOT
from conftest import Bake, find_uv, without_shell_settings
from filelock import FileLock
from local_lab import Lab
from test_jobs import model, trained, training

IMAGE = Path(__file__).with_name("image.py")
DEFINITION = json.loads((ROOT / "{{cookiecutter.project_slug}}" / "pipeline" / "definition.json").read_text())
STEPS = {step["Name"]: step["Arguments"] for step in DEFINITION["Steps"]}
REGISTER = next(s for s in STEPS["Gate"]["IfSteps"] if s["Name"] == "Register")["Arguments"]
TRAINING = STEPS["Train"]["Environment"]
SERVING = REGISTER["InferenceSpecification"]["Containers"][0]["Environment"]
# Versions of the image, by its requirements.txt and Dockerfile. What they need beyond that comes with them.
LIBRARIES = (
    *("numpy==2.1.0", "pandas==2.2.3", "pyarrow==22.0.0", "scikit-learn==1.8.0", "scipy==1.15.0", "joblib==1.5.3"),
    *("pip==26.1", "setuptools==80.10.2", "flask==3.1.3", "werkzeug==3.1.8", "gunicorn==25.3.0", "gevent==26.4.0"),
    *("protobuf==3.20.3", "boto3==1.38.0", "inotify_simple==1.3.5", "psutil==7.0.0", "retrying==1.3.3", "six==1.17.0"),
    "paramiko==3.5.1",
    "xgboost-cpu==3.2.0 ; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "xgboost==3.2.0 ; sys_platform != 'linux' or platform_machine != 'x86_64'",
)
SHOW_ARGUMENTS = """
import json, os, sys
with open(os.path.join(os.environ["SM_MODEL_DIR"], "algo-1.json"), "w") as file:
    json.dump(sys.argv[1:], file)
"""
VALUES = {
    **{"a": "1", "C": "0.50", "whole": "3", "large": "100000000000000000000", "small": "1e-7", "negative": "-0.5"},
    **{"yes": "true", "no": "false", "python": "True", "nothing": "null", "empty": "", "spaces": "two words"},
    **{"quoted": '"text"', "list": "[1, 2]", "map": '{"a": 1, "b": "c"}', "broken": "[1,", "dash-ed": "x", "ü": "é"},
}
# The second is one that SageMaker adds to the jobs of a search.
KEPT_BY_CONTAINER = {"default_user_module_name": "x", "_tuning_objective_metric": "validation:auc"}
HYPERPARAMETERS = {"num_round": "30", "max_depth": "3", "eta": "0.3"}


@pytest.fixture(scope="session")
def image_environment() -> Path:
    return make_image()


def make_image() -> Path:
    """Return the site-packages of the image, made once for all runs of the tests."""
    digest = hashlib.sha256("\n".join(LIBRARIES).encode()).hexdigest()[:12]
    folder = ROOT / "build" / "environments" / f"image-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = [
        find_uv(),
        "pip",
        "install",
        "--quiet",
        "--link-mode=copy",
        "--exclude-newer",
        "2026-11-01",
        "--python",
        str(folder),
    ]
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").is_file():
            env = without_shell_settings()
            subprocess.run([find_uv(), "venv", "--quiet", "--clear", "--python", "3.11", folder], check=True, env=env)
            subprocess.run([*uv, *LIBRARIES], check=True, env=env)
            subprocess.run([*uv, "--no-deps", "sagemaker-containers==2.8.6.post2"], check=True, env=env)
            # The image's Dockerfile makes the same change: the package is older than Python 3.10. (The file is a copy,
            # because a link would lead into uv's cache.)
            mapping = next(folder.rglob("sagemaker_containers/_mapping.py"))
            mapping.write_text(mapping.read_text().replace("collections.Mapping", "collections.abc.Mapping"))
            (folder / "ready").touch()
    return next(folder.glob("lib/python*/site-packages"))


@pytest.fixture
def container(image_environment: Path, tmp_path: Path) -> "Container":
    return Container(image_environment, tmp_path / "container")


class Container:
    """A container of the image: an environment of its own over the image's, and `/opt/ml` as a folder."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.opt_ml = folder / "ml"
        self.opt_ml.mkdir(parents=True)
        venv = folder / "python"
        subprocess.run([find_uv(), "venv", "--quiet", "--python", "3.11", venv], check=True)
        (next(venv.glob("lib/python*/site-packages")) / "image.pth").write_text(f"{image}\n")
        self.python = venv / "bin" / "python"
        self._path = f"{venv / 'bin'}{os.pathsep}{image.parents[2] / 'bin'}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, mode: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
        """Start the container without a package index, with the variables that a job or an endpoint has."""
        variables = {key: value.replace("/opt/ml", str(self.opt_ml)) for key, value in environment.items()}
        variables |= {"SAGEMAKER_BASE_DIR": str(self.opt_ml), "PATH": f"{self._path}{os.pathsep}{os.environ['PATH']}"}
        variables |= {"SAGEMAKER_BIND_TO_PORT": str(self.port), "SAGEMAKER_USE_NGINX": "false", "PIP_NO_INDEX": "1"}
        command = [str(self.python), "-W", "ignore", str(IMAGE), mode]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=without_shell_settings(variables), stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def train(
        self, project: Path, splits: Path, environment: dict[str, str], hyperparameters: dict[str, str]
    ) -> tuple[int, str]:
        """Run a training job as SageMaker lays it out. Returns the exit code and the log."""
        for name in ("train", "validation"):
            shutil.copytree(splits / name, self.opt_ml / "input" / "data" / name)
        with tarfile.open(self.opt_ml / "source.tar.gz", "w:gz") as tar:
            for file in sorted((project / "model").iterdir()):
                tar.add(file, arcname=file.name)
        program = {"sagemaker_program": "train.py", "sagemaker_submit_directory": str(self.opt_ml / "source.tar.gz")}
        config = self.opt_ml / "input" / "config"
        config.mkdir(parents=True)
        (self.opt_ml / "model").mkdir()
        for name, content in {
            "hyperparameters": hyperparameters | program,
            "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"},
            "inputdataconfig": {name: {"TrainingInputMode": "File"} for name in ("train", "validation")},
        }.items():
            (config / f"{name}.json").write_text(json.dumps(content))
        process = self.start("train", environment)
        log = process.communicate(timeout=300)[0]
        return process.returncode, log

    def ask(self, body: bytes, kind: str, accept: str = "application/json") -> tuple[int, str]:
        """Return status and body of the answer to a request."""
        headers = {"Content-Type": kind, "Accept": accept}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_up(self) -> bool:
        """Return True if /ping answers 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def local(baked: Bake, project_env: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The project, and a folder with its splits and the model that its scripts train outside a container."""
    project, folder = baked(), tmp_path_factory.mktemp("local")
    flags = [part for name, value in HYPERPARAMETERS.items() for part in (f"--{name}", value)]
    splits = ["--train", folder / "train", "--validation", folder / "validation", "--model-dir", folder / "model"]
    preprocess = ["preprocess.py", "--input", project / "data", "--output", folder]
    for script, *arguments in (preprocess, ["train.py", *splits, *flags]):
        command = [str(project_env), str(project / "model" / str(script)), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True)
    return project, folder


def test_training_makes_the_same_model(container: Container, local: tuple[Path, Path]) -> None:
    project, folder = local
    code, log = container.train(project, folder, TRAINING, HYPERPARAMETERS)
    assert code == 0, log
    ours, theirs = (json.loads((p / "model" / "sample_response.json").read_text()) for p in (folder, container.opt_ml))
    assert ours == theirs
    recorded = json.loads((container.opt_ml / "model" / "training.json").read_text())["hyperparameters"]
    assert (recorded["num_round"], recorded["max_depth"], recorded["eta"]) == (30, 3, 0.3)


def test_without_our_variable_the_image_asks_an_index(container: Container, local: tuple[Path, Path]) -> None:
    project, folder = local
    code, log = container.train(project, folder, {}, HYPERPARAMETERS)
    assert code != 0 and "InstallModuleError" in log


def test_the_local_engine_gives_train_py_the_image_s_command_line(
    container: Container, lab: Lab, tmp_path: Path
) -> None:
    """Values are texts, which the image decodes as JSON where it can, and writes as arguments in its own way."""
    for name in ("model", "train", "validation"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "train.py").write_text(SHOW_ARGUMENTS, encoding="utf-8")
    code, log = container.train(tmp_path, tmp_path, TRAINING, VALUES | KEPT_BY_CONTAINER)
    assert code == 0, log
    theirs = json.loads((container.opt_ml / "model" / "algo-1.json").read_text())
    lab.put("data/a.csv", "1")
    request = training(lab, SHOW_ARGUMENTS, hyperparameters=VALUES | KEPT_BY_CONTAINER)
    ours = json.loads(model(lab, trained(lab, request))["algo-1.json"])
    assert len(ours) == 2 * len(VALUES) and ours == theirs


@pytest.fixture
def served(container: Container, local: tuple[Path, Path]) -> Iterator[Container]:
    """The container that serves the model."""
    shutil.copytree(local[1] / "model", container.opt_ml / "model")
    process = container.start("serve", SERVING)
    try:
        deadline = time.monotonic() + 120
        while not container.is_up():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.1)
        yield container
    finally:
        process.terminate()
        process.communicate(timeout=30)


JSON, CSV = "application/json", "text/csv"


def test_the_container_answers_as_the_model_does(served: Container, local: tuple[Path, Path]) -> None:
    sample = (local[1] / "model" / "sample_request.json").read_bytes()
    expected: dict[str, Any] = json.loads((local[1] / "model" / "sample_response.json").read_text())
    rows = json.loads(sample)["instances"]
    lines = "\n".join(",".join(map(str, row.values())) for row in rows).encode()
    for body, kind in ((sample, JSON), (json.dumps(rows).encode(), JSON), (lines, CSV)):
        status, text = served.ask(body, kind)
        assert (status, json.loads(text)) == (200, expected), text
    status, text = served.ask(lines, CSV, accept=CSV)
    assert status == 200 and len(text.splitlines()) == len(rows)

    for body, kind, accept, reason in (
        (b"{", JSON, JSON, "the body is not JSON"),
        (b'{"rows": 1}', JSON, JSON, "instances"),
        (b'{"instances": [{"nothing": 1}]}', JSON, JSON, "is missing"),
        (b"1,2\n", CSV, JSON, "row 1 has 2 cells"),
        (lines.replace(b"1", b"x", 1), CSV, JSON, "is not a number"),
        (b"", CSV, JSON, "no rows"),
        (lines.replace(b"1", b"\xff", 1), CSV, JSON, "not UTF-8 text"),
        (b"[" * 100_000, JSON, JSON, "recursion"),
        (b"<xml/>", "application/xml", JSON, "content type 'application/xml' is not supported"),
        (sample, JSON, "image/png", "accept 'image/png' is not supported"),
    ):
        status, text = served.ask(body, kind, accept)
        assert status == 400 and reason in json.loads(text)["error"], (status, text)
    assert served.is_up()


def test_an_error_of_the_models_code_is_a_server_error(container: Container, local: tuple[Path, Path]) -> None:
    shutil.copytree(local[1] / "model", container.opt_ml / "model")
    artifact = container.opt_ml / "model" / "code" / "artifact.py"
    artifact.write_text(
        artifact.read_text().replace("        matrix =", "        raise ValueError('broken')\n        matrix =")
    )
    process = container.start("serve", SERVING)
    try:
        while not container.is_up():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        status, _ = container.ask((local[1] / "model" / "sample_request.json").read_bytes(), JSON)
        assert status == 500
    finally:
        process.terminate()
        process.communicate(timeout=30)
