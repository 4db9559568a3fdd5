"""Tracking in MLflow: with `[tracking]` in environments/ENV.toml, each execution that has ended is a run there.

The plugin sagemaker-mlflow lets MLflow take the ARN of a tracking server or app in place of a URL, and signs requests
("Integrate MLflow with your environment", SageMaker AI developer guide).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sagegate import output
from sagegate.errors import USAGE, SagegateError, warn
from sagegate.evaluation import Evaluation
from sagegate.files import Json
from sagegate.pipeline.code import code_parameters
from sagegate.registry.evaluation import read_report, registered_model, rejection_message
from sagegate.runs.executions import execution_parameters
from sagegate.session import Session, read_object

SQLITE = "sqlite:///"
STATUSES = {"Succeeded": "FINISHED", "Rejected": "FINISHED", "Stopped": "KILLED"}  # of MLflow; others are FAILED
# Parameters that follow from the environment or the commit.
NOT_CHOSEN = {
    *("RoleArn", "ImageUri", "ArtifactsUri", "ModelPackageGroupName"),
    *("CodeCommit", "CodeRepository", "StartedBy"),
}


@dataclass(frozen=True)
class TrackedRun:
    """An execution as MLflow gets it; times are milliseconds since 1970."""

    name: str
    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: dict[str, float]
    status: str
    start: int
    end: int


def check_installed(session: Session) -> None:
    """Raise SagegateError if the environment has `[tracking]`, but a package that it needs is missing."""
    if session.environment.tracking is None:
        return
    uri = session.environment.tracking.mlflow
    package, modules = "mlflow", ["mlflow"]
    if uri.startswith("arn:"):
        package, modules = "sagemaker-mlflow", ["mlflow", "sagemaker_mlflow"]
    elif uri.startswith(SQLITE):
        modules += ["sqlalchemy", "alembic"]  # mlflow-skinny comes without them
    if not all(map(find_spec, modules)):
        where = f"environments/{session.environment.name}.toml: tracking.mlflow"
        raise SagegateError(f"{where}: needs a package: `uv add {package}` installs it; or remove [tracking]", USAGE)


def track(
    session: Session, execution: Json, definition: Json, steps: list[Json], evaluation: Evaluation | None, reason: str
) -> None:
    """Log an execution that has ended, if the environment has `[tracking]`; `reason` becomes the run's description.

    If that fails, it is one line on standard error: it changes nothing about the execution.
    """
    if session.environment.tracking is None:
        return
    uri, name = session.environment.tracking.mlflow, execution["PipelineExecutionArn"].rpartition("/")[2]
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # MLflow logs each retry, and each table of a new database
    try:
        check_installed(session)
        run = describe_run(session, execution, definition, steps, evaluation, reason)
        files = {}
        if evaluation:
            files["evaluation.json"] = read_object(session, evaluation.uri)
            files["report.html"] = read_report(session, evaluation.uri)
        _use_credentials(session)
        _log(session, uri, run, files)
        output.line(f"tracking: run {name} in {uri}")
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        why = why if len(why) < 300 else f"{why[:300]}..."
        again = f"`sagegate status {name} --follow{session.option}` tries again"
        warn(f"execution {name} has ended as shown, but is not in MLflow ({uri}): {why}: {again}")
    finally:
        logging.disable(before)


def describe_run(
    session: Session, execution: Json, definition: Json, steps: list[Json], evaluation: Evaluation | None, reason: str
) -> TrackedRun:
    """Return the run of an execution that has ended."""
    arn, status = execution["PipelineExecutionArn"], execution["PipelineExecutionStatus"]
    given = execution_parameters(session, arn)
    declared = definition.get("Parameters") or []
    values = {p["Name"]: str(p["DefaultValue"]) for p in declared if "DefaultValue" in p} | given
    tags = {"execution": arn, "environment": session.environment.name, "mlflow.note.content": reason}
    if model := registered_model(steps):
        tags |= {"gate": "passed", "model_version": model.rpartition("/")[2]}
    elif rejection_message(steps):
        status = "Rejected"
        tags["gate"] = "rejected"
    chosen = {
        name: value for name, value in values.items() if name not in NOT_CHOSEN | code_parameters(definition).keys()
    }
    metrics: dict[str, float] = {}
    if evaluation:
        trained = evaluation.body["lineage"].get("hyperparameters") or {}  # with those that a Tuning step found
        chosen = {name: str(value) for name, value in trained.items()} | chosen
        for name, (value, deviation) in evaluation.metrics.items():
            metrics[name] = value
            if deviation is not None:
                metrics[f"{name}_standard_deviation"] = deviation
    return TrackedRun(
        name=arn.rpartition("/")[2],
        tags=tags | {"status": status, "commit": values.get("CodeCommit", "")},
        parameters={name: value for name, value in sorted(chosen.items()) if value},
        metrics=metrics,
        status=STATUSES.get(status, "FAILED"),
        start=round(execution["CreationTime"].timestamp() * 1000),
        end=round(execution["LastModifiedTime"].timestamp() * 1000),
    )


def _use_credentials(session: Session) -> None:
    """Let MLflow and its plugin, which make clients of their own, use the session's profile."""
    if session.profile:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)  # boto3 would prefer them to AWS_PROFILE
        os.environ["AWS_PROFILE"] = session.profile


def _log(session: Session, uri: str, run: TrackedRun, files: dict[str, bytes | None]) -> None:
    """Create the run in MLflow, or complete the one that the execution has already.

    It has one if this failed halfway, if the execution was retried, or if somebody else followed it.
    """
    # MLflow's default is to try for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    location = None
    if uri.startswith(SQLITE):  # a relative path begins at mlops.toml, wherever the command runs
        database = session.root / uri.removeprefix(SQLITE)
        uri, location = f"{SQLITE}{database}", (database.parent / "mlruns").as_uri()
    mlflow.set_tracking_uri(uri)  # the plugin takes the ARN from there, not from the client
    client = mlflow.MlflowClient()
    name = session.settings.project.name
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name, location)
    found: Any = client.search_runs([experiment], f"tags.execution = '{run.tags['execution']}'", max_results=1)
    if found and found[0].info.end_time == run.end:  # the end is written last
        return
    tags = {"execution": run.tags["execution"]}
    id = (found[0] if found else client.create_run(experiment, run.start, tags, run.name)).info.run_id
    client.log_batch(
        id,
        [Metric(key, value, run.end, 0) for key, value in run.metrics.items()],
        [Param(key, value) for key, value in run.parameters.items()],
        [RunTag(key, value) for key, value in run.tags.items()],
    )
    with TemporaryDirectory() as folder:
        for file, content in files.items():
            if content is not None:
                Path(folder, file).write_bytes(content)
        client.log_artifacts(id, folder)
    client.set_terminated(id, run.status, run.end)
