"""`sagegate compile`: pipeline/pipeline.py to pipeline/definition.json, the same bytes each time.

Only this command needs the SageMaker SDK. It works offline and without credentials.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from traceback import extract_tb, print_exc
from typing import Any

from sagegate.config import Settings, load_environment, load_settings
from sagegate.errors import FAILED, SagegateError
from sagegate.files import Json, write_atomically
from sagegate.pipeline.code import check_hyperparameters
from sagegate.pipeline.definition import path_of, source_digest, steps_of, training_requests
from sagegate.pipeline.document import check_document
from sagegate.pipeline.validate import reference_errors

OFFLINE = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "SAGEMAKER_VALIDATE_ROLE": "false",
    "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": os.devnull,
    "SAGEMAKER_USER_CONFIG_OVERRIDE": os.devnull,
}


def compile_project(root: Path, shows_traceback: bool = False) -> bool:
    """Write `pipeline/definition.json` of the project in `root`; return True if its bytes changed.

    The SDK reads its environment at import, so this runs in a process of its own. It fetches the SDK if it is missing.
    Raises SagegateError with pipeline.py's own error and line.
    """
    settings = load_settings(root)
    source_digest(root, settings)  # raises SagegateError if pipeline.py cannot be read
    check_hyperparameters(root, settings.hyperparameters)
    command = ["python", "-m", "sagegate.pipeline.compile", str(root)]
    if find_spec("sagemaker"):
        command[0] = sys.executable
    else:
        uv = os.environ.get("UV") or shutil.which("uv")
        if not uv:
            raise SagegateError("compiling needs the SageMaker SDK: run `uv run --group compile sagegate compile`")
        print("compile: fetching the SageMaker SDK (once, about 700 MB)", file=sys.stderr)
        command = [uv, "run", "--project", str(root), "--group", "compile", *command]
    file = path_of(root)
    before = file.read_bytes() if file.is_file() else b""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SAGEMAKER_"))}
    environment |= OFFLINE | {"AWS_DEFAULT_REGION": load_environment(root, "local").region}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        if shows_traceback:
            print(done.stderr, file=sys.stderr)
        said = [line for line in (done.stdout if done.returncode == FAILED else done.stderr).splitlines() if line]
        raise SagegateError(said[-1].strip() if said else f"compiling ended with exit code {done.returncode}", FAILED)
    return file.read_bytes() != before


def check_compiled(root: Path, since: str | None, shows_traceback: bool = False) -> str:
    """Compile, keep the committed definition, and raise SagegateError if the two differ. Return a line for the user.

    The digest in the definition does not detect manual edits, so this compiles again. With `since`, skip that (and
    fetching the SDK) if nothing that the definition is compiled from changed since that git revision.
    """
    if since:
        command = ["git", "diff", "--quiet", since, "--", "pipeline", "pyproject.toml"]
        if subprocess.run(command, cwd=root, capture_output=True).returncode == 0:
            return f"the sources of pipeline/definition.json have not changed since {since}"
    file = path_of(root)
    before = file.read_bytes() if file.is_file() else b""
    try:
        differs = compile_project(root, shows_traceback)
    finally:
        if before:
            write_atomically(file, before)
    if differs:
        raise SagegateError(
            "pipeline/definition.json is not what pipeline.py compiles to: run `sagegate compile` and commit it"
        )
    return "pipeline/definition.json is what pipeline.py compiles to"


def compiled(root: Path, settings: Settings) -> Json:
    """Return the definition as the SDK emits it, environment-neutral and with its source's digest."""
    from sagemaker.core.workflow.pipeline_context import PipelineSession

    class OfflineSession(PipelineSession):  # type: ignore[misc]
        """A session that uploads nothing and looks nothing up."""

        def default_bucket(self) -> str:
            return "not-a-bucket"

        def account_id(self) -> str:
            return "000000000000"

        def upload_data(self, *_: object, **__: object) -> str:
            raise SagegateError("a step uploads code while compiling: pass its package as a parameter instead")

        upload_string_as_file_body = upload_data

    opt_out = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    session = OfflineSession(sagemaker_config={"SchemaVersion": "1.0", **opt_out})
    build = load_pipeline(root).build
    arguments: list[Any] = [settings.parameter_types(), session]
    if settings.tuning:
        if len(signature(build).parameters) < 3:
            todo = "`cruft update` brings it, or remove [tuning] from mlops.toml"
            raise SagegateError(f"build() takes no third argument `tuning`: {todo}")
        arguments.append(settings.search())
    definition = neutral(json.loads(build(*arguments).definition()))
    return {**definition, "Metadata": {"Source": source_digest(root, settings)}}


def load_pipeline(root: Path) -> Any:
    """Import pipeline/pipeline.py by its path; it may import modules beside it and in the project's root."""
    file = root / "pipeline" / "pipeline.py"
    sys.path[:0] = [str(file.parent), str(root)]
    spec = spec_from_file_location("pipeline", file)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def neutral(definition: Json) -> Json:
    """Put parameters where the SDK accepts only literals, and drop what it copies from the local environment.

    Training and Tuning: role, volume and run time. Register: the region in the container's environment, and the code's
    place inside the artifact, where train.py puts it, so no repacking job is needed. Changes and returns `definition`.
    """
    for step in steps_of(definition).values():
        arguments = step.body["Arguments"]
        for request in training_requests(step.type, arguments):
            request["RoleArn"] = {"Get": "Parameters.RoleArn"}
            request["ResourceConfig"]["VolumeSizeInGB"] = {"Get": "Parameters.TrainingVolumeSizeInGB"}
            request["StoppingCondition"]["MaxRuntimeInSeconds"] = {"Get": "Parameters.MaxRuntimeInSeconds"}
        if step.type == "RegisterModel":
            for container in arguments["InferenceSpecification"]["Containers"]:
                container["Environment"].pop("SAGEMAKER_REGION", None)
                container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"] = "/opt/ml/model/code"
            metrics = arguments.get("ModelMetrics", {})
            arguments["ModelMetrics"] = {key: value for key, value in metrics.items() if value}
    return {key: value for key, value in definition.items() if value is not None}


def refusal(error: Exception) -> str:
    """Return a line for an error of pipeline.py: its text, and its line there."""
    more = "" if isinstance(error, SagegateError) else " (`sagegate compile --traceback` shows more)"
    text = f"{type(error).__name__}: {error}" if more else str(error)
    text = " ".join(re.sub(r"For further information visit \S+", "", text).split())  # pydantic's have several lines
    places = [(frame.filename, frame.lineno) for frame in extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        text, places = f"SyntaxError: {error.msg}", [*places, (error.filename or "", error.lineno)]
    lines = [line for file, line in places if Path(file).parts[-2:] == ("pipeline", "pipeline.py")]
    return f"pipeline/pipeline.py{f', line {lines[-1]}' if lines else ''}: {text}{more}"


def main(root: Path) -> int:
    """Compile the project in `root`. If that fails, print one line, and the traceback on standard error."""
    try:
        definition = compiled(root, load_settings(root))
        check_document(definition)
        if broken := next(reference_errors(definition), None):
            raise SagegateError(broken)
    except Exception as error:
        print_exc()
        print(refusal(error))
        return FAILED
    try:
        write_atomically(path_of(root), (json.dumps(definition, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as full:
        print(f"pipeline/definition.json cannot be written: {full.strerror}")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
