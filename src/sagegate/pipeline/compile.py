"""`sagegate compile`: pipeline/pipeline.py to pipeline/definition.json, the same bytes each time.

Only this command needs the SageMaker SDK. It works offline and without credentials.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from typing import Any

from sagegate.config import Settings, load_environment, load_settings
from sagegate.errors import FAILED, SagegateError
from sagegate.files import Json, write_atomically
from sagegate.pipeline.definition import path_of, source_digest, steps_of, training_requests

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


def compile_project(root: Path) -> bool:
    """Write `pipeline/definition.json` of the project in `root`; return True if its bytes changed.

    The SDK reads its environment at import, so this runs in a process of its own. It fetches the SDK if it is missing.
    Raises SagegateError with pipeline.py's own error and line.
    """
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
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        frames = [line for line in lines if line.startswith("File") and 'pipeline.py"' in line]
        where = f" (pipeline.py, {frames[-1].split(', ')[1]})" if frames else ""
        what = (
            "definition.json cannot be written"
            if "[Errno" in lines[-1] and not frames
            else "pipeline.py does not compile"
        )
        reason = lines[-1].removeprefix("sagegate.errors.SagegateError: ")
        raise SagegateError(f"pipeline/{what}: {reason}{where}", FAILED)
    return file.read_bytes() != before


def check_compiled(root: Path, since: str | None) -> str:
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
        differs = compile_project(root)
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


if __name__ == "__main__":
    project = Path(sys.argv[1])
    text = json.dumps(compiled(project, load_settings(project)), indent=2, ensure_ascii=False) + "\n"
    write_atomically(path_of(project), text.encode())
