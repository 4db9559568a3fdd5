"""Shared fixtures: a clean copy of the template, generated projects, and the Python environments that they run in."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from clean_copy import ROOT, copy_template
from cookiecutter.main import cookiecutter
from filelock import FileLock
from warm_python import socket_path

if TYPE_CHECKING:
    from fakes.remote import Remote
    from local_lab import Lab
    from places import Place

PROJECT_FOLDER = "{{cookiecutter.project_slug}}"
LIBRARIES = (
    "boto3",
    "click",
    "joblib",
    "msgspec",
    "pandas",
    "pyarrow.csv",
    "regex",
    "rich.table",
    "sklearn",
    "xgboost",
)
SDK = (  # slow to import: what pipelines are compiled with, and what a run is logged to
    "mlflow",
    "sagemaker.core.lambda_helper",
    "sagemaker.core.processing",
    "sagemaker.core.transformer",
    "sagemaker.mlops.workflow.lambda_step",
    "sagemaker.mlops.workflow.model_step",
    "sagemaker.mlops.workflow.pipeline",
    "sagemaker.serve.model_builder",
    "sagemaker.train.tuner",
)
SDK_EXTRAS = ("lightgbm==4.7.0", "ipykernel==7.4.0", "nbclient==0.11.0")
PROBLEM_TYPES = ("binary_classification", "multiclass_classification", "regression")


class RunIn(Protocol):
    def __call__(
        self, project: Path, *args: str, check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]: ...


Bake = Callable[..., Path]
Once = Callable[[str, Callable[[Path], object]], Path]
Warm = Callable[..., Path]


def bake_template(template: Path, output: Path, **answers: str) -> Path:
    """Generate a project from defaults and answers, without the user's own cookiecutter configuration."""
    questions = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    unknown = answers.keys() - {name for name in questions if not name.startswith("_")}
    assert not unknown, f"the template does not ask for {sorted(unknown)}, and cookiecutter would ignore it"
    output.mkdir(parents=True, exist_ok=True)
    config = output / "cookiecutter-config.json"
    config.write_text(
        json.dumps({"cookiecutters_dir": str(output / ".copies"), "replay_dir": str(output / ".replay")}),
        encoding="utf-8",
    )
    return Path(
        cookiecutter(
            str(template),
            no_input=True,
            extra_context=answers,
            output_dir=str(output),
            config_file=str(config),
        )
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of this repository's working tree. Read-only."""
    return copy_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all workers."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def once(shared: Path) -> Once:
    """`once(name, make)` returns a folder that `make(folder)` has filled, once for all workers. Read-only."""

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, ready = shared / name, shared / f"{name}.ready"
        with FileLock(f"{folder}.lock"):
            if not ready.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                ready.touch()
        return folder

    return make_once


@pytest.fixture(scope="session")
def baked(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Share generated projects, which tests must not change: `baked("regression")` returns the folder of one."""
    projects: dict[str, Path] = {}

    def of_type(problem_type: str = PROBLEM_TYPES[0]) -> Path:
        if problem_type not in projects:
            output = tmp_path_factory.mktemp(problem_type)
            projects[problem_type] = bake_template(template, output, problem_type=problem_type)
        return projects[problem_type]

    return of_type


@pytest.fixture
def bake(template: Path, baked: Bake, tmp_path: Path) -> Bake:
    """Generate a project for one test: `bake(problem_type="regression")` returns its folder."""

    def bake_here(**answers: str) -> Path:
        if not answers.items() <= {("problem_type", each) for each in PROBLEM_TYPES}:
            return bake_template(template, tmp_path / "baked", **answers)
        shared = baked(**answers)  # copying one is faster than generating one
        ignore = shutil.ignore_patterns(".mlops", "__pycache__")
        return Path(shutil.copytree(shared, tmp_path / "baked" / shared.name, ignore=ignore))

    return bake_here


def without_shell_settings(env: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables without those of other environments, AWS and pytest."""
    leaking = ("AWS_", "UV_PROJECT", "PYTEST_")
    dropped = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(leaking) and k not in dropped}
    return kept | (env or {})


def find_uv() -> str:
    """Return the path of uv: from UV, which `uv run` and `make test` set, from PATH, or where make installs it."""
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=ROOT / ".tools" / "bin")
    assert found, "uv is missing: run the tests with `make test`, or install it with `pip install uv`"
    return found


def shared_environment(project: Path, *groups: str, extra: tuple[str, ...] = ()) -> Path:
    """Create the environment of a generated project, unless it exists for this pyproject.toml; return its Python.

    It has the project's dependencies, those of sagegate, which tests import from src/, and the requirements `extra`.
    """
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    text = re.sub(r'(?m)^    "sagegate.*",$', "".join(f"    {json.dumps(name)},\n" for name in own).rstrip("\n"), text)
    key = text + sys.version + " ".join([*groups, *extra])
    folder = ROOT / "build" / "environments" / hashlib.sha256(key.encode()).hexdigest()[:12]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            source = folder.with_suffix(".project")
            source.mkdir(exist_ok=True)
            (source / "pyproject.toml").write_text(text, encoding="utf-8")
            (source / "README.md").touch()
            sync = ["sync", "--no-install-project", *(f"--group={name}" for name in groups)]
            install = ["pip", "install", f"--python={python}", *extra]
            env = without_shell_settings({"UV_PROJECT_ENVIRONMENT": str(folder)})
            for command in [sync, install] if extra else [sync]:
                subprocess.run(
                    [find_uv(), *command, "--quiet"], cwd=source, env=env, check=True, stdin=subprocess.DEVNULL
                )
            (folder / "ready").touch()
        (link,) = (folder / "lib").glob("python*/site-packages")
        with suppress(FileExistsError):
            (link / "sitecustomize.py").symlink_to(ROOT / "tests" / "warm_python.py")
    return python


def fake_aws_python(project: Path) -> Path:
    """Return a Python with the project's dependencies and the version of moto that this repository pins."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    own = groups["dev"]
    return shared_environment(project, extra=tuple(name for name in own if name.startswith("moto[")))


@pytest.fixture(scope="session")
def warm(shared: Path) -> Warm:
    """`warm(python, *modules)` lets the processes of an environment's Python start as forks of one (warm_python.py)."""
    folder = shared / "warm"
    folder.mkdir(exist_ok=True)
    os.environ["WARM_PYTHON"] = str(folder)
    pytest_pid = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()

    def start(python: Path, *modules: str) -> Path:
        path = socket_path(str(folder), str(python.parents[1]))
        with FileLock(f"{path}.lock"):
            if sys.platform == "linux" and not Path(path).exists():
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(path)
                    listener.listen(64)
                    command = [str(python), str(ROOT / "tests" / "warm_python.py"), str(listener.fileno())]
                    command += [str(pytest_pid), *LIBRARIES, *modules]
                    env, files = without_shell_settings({"WARM_PYTHON": ""}), [listener.fileno()]
                    subprocess.Popen(command, env=env, pass_fds=files, stdin=subprocess.DEVNULL, start_new_session=True)
        return python

    return start


@pytest.fixture(scope="session")
def project_env(template: Path, tmp_path_factory: pytest.TempPathFactory, warm: Warm, shared: Path) -> Path:
    """The Python of the environment that generated projects share: dependencies and `dev` group."""
    os.environ["MYPY_CACHE_DIR"] = str(shared / "mypy")  # mypy checks pandas and others once for all projects
    return warm(shared_environment(bake_template(template, tmp_path_factory.mktemp("environment"))))


@pytest.fixture(scope="session")
def sdk_env(template: Path, tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Path:
    """`project_env` with the SageMaker SDK, LightGBM, and what runs a notebook without JupyterLab."""
    project = bake_template(template, tmp_path_factory.mktemp("environment"))
    return warm(shared_environment(project, "compile", extra=SDK_EXTRAS), *SDK)


@pytest.fixture(scope="session")
def fake_aws_env(template: Path, tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Path:
    """`project_env` with moto: the Python of the fake AWS, whose jobs can train."""
    return warm(fake_aws_python(bake_template(template, tmp_path_factory.mktemp("environment"))))


@pytest.fixture(scope="session")
def fake_aws_process(fake_aws_env: Path) -> Iterator["Remote"]:
    """A fake AWS in a process of its own, shared by all tests of a pytest worker."""
    from fakes.remote import Remote

    started = Remote(fake_aws_env)
    yield started
    started.close()


@pytest.fixture
def fake_aws(fake_aws_process: "Remote") -> "Remote":
    """An empty fake AWS that runs pipelines; `.environment(account, region)` has the variables to export."""
    fake_aws_process.reset()
    return fake_aws_process


def run_module(
    python: Path, project: Path, *args: str, check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m ARGS` in a generated project; with `check`, fail and show the output if the exit code is not 0."""
    done = subprocess.run(
        [str(python), "-m", *args],
        cwd=project,
        env=without_shell_settings({"PYTHONPATH": str(ROOT / "src")} | (env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(args)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done


@pytest.fixture(scope="session")
def run_in(project_env: Path) -> RunIn:
    """`run_in(project, "sagegate", "run")` runs a command as `uv run` would, in the shared environment."""

    def run(
        project: Path, *args: str, check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run_module(project_env, project, *args, check=check, env=env)

    return run


def make_place(name: str, project: Path, run_in: RunIn, fake_aws: "Remote | None") -> "Place":
    """Return an environment of a project, on AWS with the resources of its platform stack."""
    from places import ACCOUNT, Place, use_account

    if fake_aws is None:
        return Place(project, name, run_in, {})
    use_account(project, ACCOUNT)
    fake_aws.prepare("my-model", ACCOUNT)
    return Place(project, name, run_in, fake_aws.environment(ACCOUNT))


@pytest.fixture
def own_project(baked: Bake, tmp_path: Path) -> Path:
    """A generated project that the test may change."""
    project = tmp_path / "my-model"
    shutil.copytree(baked(), project, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
    return project


@pytest.fixture(params=["local", "dev"])
def place(request: pytest.FixtureRequest, own_project: Path, run_in: RunIn) -> "Place":
    """A project that the test may change, locally and on AWS."""
    fake_aws = request.getfixturevalue("fake_aws") if request.param == "dev" else None
    return make_place(request.param, own_project, run_in, fake_aws)


@pytest.fixture
def dev(own_project: Path, run_in: RunIn, fake_aws: "Remote") -> "Place":
    """A project that the test may change, on AWS."""
    return make_place("dev", own_project, run_in, fake_aws)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator["Lab"]:
    """The local engine in an empty project, with functions that write short definitions (tests/local/local_lab.py)."""
    from local_lab import make_lab

    made = make_lab(tmp_path)
    yield made
    made.client.close()
