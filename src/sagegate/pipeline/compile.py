"""`sagegate compile`: pipeline/pipeline.py -> pipeline/definition.json, the same bytes each time.

The one verb that needs the SageMaker SDK. It works offline and without credentials: the session below never leaves
this machine, and telemetry is off.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from sagegate.config import Settings, load_environment, load_settings
from sagegate.errors import FAILED, SagegateError
from sagegate.files import write_atomically
from sagegate.pipeline import definition as definitions

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
    """Write `pipeline/definition.json` of the project in `root`; True if its bytes changed.

    Runs in a process of its own, because the SDK reads its environment at import; fetches the SDK if it is missing.
    """
    command = [sys.executable, "-m", "sagegate.pipeline.compile", str(root)]
    if find_spec("sagemaker") is None:
        uv = os.environ.get("UV") or shutil.which("uv")
        if not uv:
            raise SagegateError("compiling needs the SageMaker SDK: run `uv run --group compile sagegate compile`")
        print("compile: fetching the SageMaker SDK (once, about 700 MB)", file=sys.stderr)
        command = [
            uv,
            "run",
            "--project",
            str(root),
            "--group",
            "compile",
            "python",
            "-m",
            "sagegate.pipeline.compile",
            str(root),
        ]
    file = definitions.path_of(root)
    before = file.read_bytes() if file.is_file() else b""
    region = load_environment(root, "local").region
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SAGEMAKER_"))}
    done = subprocess.run(
        command,
        cwd=root,
        env={**environment, **OFFLINE, "AWS_DEFAULT_REGION": region},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise SagegateError(f"pipeline/pipeline.py does not compile: {lines[-1].strip()}{_where(lines)}", FAILED)
    return file.read_bytes() != before


def check_compiled(root: Path, since: str | None) -> str:
    """Compile, and leave the committed definition as it is; what was found. Raises SagegateError if they differ.

    Whoever edits the definition by hand leaves its digest right, so the digest is no proof. `since` saves fetching the
    SDK: a definition is taken to be right where nothing that it is compiled from changed since that git revision.
    """
    if since and not changed_since(root, since):
        return f"nothing that pipeline/definition.json is compiled from changed since {since}"
    file = definitions.path_of(root)
    before = file.read_bytes() if file.is_file() else b""
    try:
        differs = compile_project(root)
    finally:
        if before:
            write_atomically(file, before)
    if differs:
        raise SagegateError(
            "pipeline/definition.json is not what pipeline.py compiles to: run `sagegate compile`, commit it"
        )
    return "pipeline/definition.json is what pipeline.py compiles to"


def changed_since(root: Path, revision: str) -> bool:
    """Whether something that the definition is compiled from changed; an unknown revision counts as a change."""
    sources = ("pipeline", "pyproject.toml")
    command = ["git", "diff", "--quiet", revision, "--", *sources]
    return subprocess.run(command, cwd=root, capture_output=True).returncode != 0


def _where(lines: list[str]) -> str:
    mine = [line.strip() for line in lines if "pipeline.py" in line and line.strip().startswith("File")]
    return f" ({mine[-1].split(', in ')[0].split('/')[-1]})".replace('"', "") if mine else ""


def compiled(root: Path, settings: Settings) -> dict[str, Any]:
    """The definition as the SDK emits it, made environment-neutral and stamped with its source's digest."""
    from sagemaker.core.workflow.pipeline_context import PipelineSession

    class OfflineSession(PipelineSession):  # type: ignore[misc]
        """A session whose uploads and look-ups stay on this machine."""

        def default_bucket(self) -> str:
            return "not-a-bucket"

        def account_id(self) -> str:
            return "000000000000"

        def upload_data(self, *_: object, **__: object) -> str:
            raise SagegateError("a step uploads code while compiling: give it its package as a parameter instead")

        upload_string_as_file_body = upload_data

    opt_out = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    session = OfflineSession(sagemaker_config={"SchemaVersion": "1.0", **opt_out})
    definition = neutral(json.loads(load_pipeline(root).build(settings.parameter_types(), session).definition()))
    return {**definition, "Metadata": {"Source": definitions.source_digest(root, settings)}}


def load_pipeline(root: Path) -> Any:
    """Import pipeline/pipeline.py by its path; it can import the modules beside it and in the project's root."""
    file = root / "pipeline" / "pipeline.py"
    sys.path[:0] = [str(file.parent), str(root)]
    spec = spec_from_file_location("pipeline", file)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def neutral(definition: dict[str, Any]) -> dict[str, Any]:
    """Put parameters where the SDK only takes literals, and drop what it bakes in about this machine.

    Training: role, volume and run time. Register: the region in the container's environment, and the code's place
    inside the artifact (train.py puts it there, so no repacking job is needed). Changes and returns `definition`.
    """
    for step in definitions.steps_of(definition).values():
        arguments = step.body["Arguments"]
        if step.type == "Training":
            arguments["RoleArn"] = {"Get": "Parameters.RoleArn"}
            arguments["ResourceConfig"]["VolumeSizeInGB"] = {"Get": "Parameters.TrainingVolumeSizeInGB"}
            arguments["StoppingCondition"]["MaxRuntimeInSeconds"] = {"Get": "Parameters.MaxRuntimeInSeconds"}
        elif step.type == "RegisterModel":
            for container in arguments["InferenceSpecification"]["Containers"]:
                container["Environment"].pop("SAGEMAKER_REGION", None)
                container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"] = "/opt/ml/model/code"
            metrics = arguments.get("ModelMetrics", {})
            arguments["ModelMetrics"] = {key: value for key, value in metrics.items() if value}
    return {key: value for key, value in definition.items() if value is not None}


if __name__ == "__main__":
    project = Path(sys.argv[1])
    result = compiled(project, load_settings(project))
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_atomically(definitions.path_of(project), text.encode())
