"""Have the pipeline as it should be: code and data stored, the definition created or updated only if it differs.
`sagegate run`: compile if stale, store code and data, upsert the pipeline, start it, follow it, say what came out.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagegate.config import Settings, load_environment, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import split_uri
from sagegate.local.engine import check_names, downstream
from sagegate.pipeline import definition, parameters
from sagegate.pipeline import parameters as overlay
from sagegate.pipeline.code import libraries, remember
from sagegate.pipeline.parameters import Data
from sagegate.pipeline.validate import reference_errors
from sagegate.registry import champion
from sagegate.runs.executions import execution_definition
from sagegate.runs.follow import follow_and_report
from sagegate.session import Session, is_missing, open_session, pages

if TYPE_CHECKING:
    from sagegate.local.launcher import Launcher


Json = dict[str, Any]
DESCRIPTION_LENGTH = 3072  # PipelineExecutionDescription in the SageMaker API reference


def store(session: Session, contents: dict[str, bytes], data: Data) -> int:
    """Store the code packages and data that are not there yet; how many were missing.

    They are named by digest, so what is there never changes.
    """
    bucket, _ = split_uri(session.names.artifacts)
    missing = missing_objects(session, list(contents), f"{session.names.artifacts}/code/")
    for key in missing:
        session.s3.put_object(Bucket=bucket, Key=key, Body=contents[key])
    absent: list[str] = []
    if data.files:
        _, prefix = split_uri(data.uri)
        absent = missing_objects(session, [f"{prefix}/{name}" for name in data.files], f"{data.uri}/")
        for key in absent:
            session.s3.upload_file(str(data.files[key.removeprefix(f"{prefix}/")]), bucket, key)
    champion.ensure_marker(session)
    return len(missing) + len(absent)


def missing_objects(session: Session, keys: list[str], uri: str) -> list[str]:
    """Those of `keys` that the bucket does not hold below `uri`."""
    bucket, prefix = split_uri(uri)
    known = {found["Key"] for found in pages(session.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=prefix)}
    return [key for key in keys if key not in known]


def upsert(session: Session, body: str, tags: dict[str, str]) -> str:
    """Create or update the pipeline; `created`, `updated` or `unchanged`."""
    name = session.names.pipeline
    request: Json = {"PipelineName": name, "PipelineDefinition": body, "RoleArn": session.names.role}
    existing = describe_pipeline(session)
    if existing is None:
        try:
            session.sagemaker.create_pipeline(**request, ClientRequestToken=request_token(), Tags=as_tags(tags))
        except Exception as error:
            existing = describe_pipeline(session)  # another run was faster, or the answer to our own call was lost
            if existing is None:
                raise error
        else:
            return "created"
    if json.loads(existing["PipelineDefinition"]) == json.loads(body) and existing["RoleArn"] == session.names.role:
        return "unchanged"
    session.sagemaker.update_pipeline(**request)
    session.sagemaker.add_tags(ResourceArn=existing["PipelineArn"], Tags=as_tags(tags))
    return "updated"


def describe_pipeline(session: Session) -> Json | None:
    """The pipeline, or None if there is none yet."""
    try:
        found: Json = session.sagemaker.describe_pipeline(PipelineName=session.names.pipeline)
    except Exception as error:
        if is_missing(session, error):
            return None
        raise
    return found


def start(session: Session, overrides: dict[str, str], selected: frozenset[str], reason: str = "") -> str:
    """Start the pipeline; the execution's ARN. The call holds a token, so a repeated one never starts a second."""
    request: Json = {
        "PipelineName": session.names.pipeline,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in overrides.items()],
        "ClientRequestToken": request_token(),
    }
    if reason:
        request["PipelineExecutionDescription"] = " ".join(reason.split())[:DESCRIPTION_LENGTH]
    if selected:
        chosen = [{"StepName": name} for name in sorted(selected)]
        source = latest_execution(session)
        request["SelectiveExecutionConfig"] = {"SelectedSteps": chosen, "SourcePipelineExecutionArn": source}
    return str(session.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"])


def latest_execution(session: Session) -> str:
    """The ARN of the latest execution that has ended by itself, for steps that take results from it."""
    request = {"PipelineName": session.names.pipeline, "SortBy": "CreationTime", "SortOrder": "Descending"}
    for summary in pages(session.sagemaker.list_pipeline_executions, "PipelineExecutionSummaries", **request):
        if summary["PipelineExecutionStatus"] in ("Succeeded", "Failed"):
            return str(summary["PipelineExecutionArn"])
    raise SagegateError("there is no earlier execution to take results from: run the whole pipeline first")


def retry(session: Session, name: str) -> str:
    """Start an ended execution's failed steps again; its ARN."""
    arn = session.names.execution(name)
    try:
        session.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=request_token())
    except Exception as error:
        if is_missing(session, error):
            raise SagegateError(f"there is no execution {name}: `sagegate status` lists them") from None
        raise
    return arn


def request_token() -> str:
    """A ClientRequestToken; AWS wants 32 to 128 characters."""
    return uuid.uuid4().hex


def as_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags in boto3's shape; a value holds at most 256 characters."""
    return [{"Key": key, "Value": value[:256]} for key, value in sorted(tags.items())]


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks of a run: `NAME=VALUE` overrides, which steps to run, whether to follow it."""

    overrides: tuple[str, ...] = ()
    reads_cache: bool = True
    from_step: str | None = None
    only: tuple[str, ...] = ()
    retry: str | None = None
    waits: bool = True
    reason: str = ""

    def check(self, environment: str) -> None:
        """Raises SagegateError for options that do not go together."""
        if sum(map(bool, (self.from_step, self.only, self.retry))) > 1 or (self.retry and self.overrides):
            raise SagegateError("--from, --only and --retry exclude each other, and --retry takes no --set", USAGE)
        if environment == "local" and not self.waits:
            raise SagegateError("--no-wait needs --env: on this machine the command is what runs the pipeline", USAGE)
        if environment != "local" and not self.reads_cache:
            raise SagegateError("--no-cache is for this machine: on AWS, CacheConfig in pipeline.py decides", USAGE)


@dataclass(frozen=True)
class RunRequest:
    """What `run` is about to do: objects to store, the pipeline to have, the parameters to start it with."""

    contents: dict[str, bytes]
    data: parameters.Data
    body: str
    overrides: dict[str, str]
    tags: dict[str, str]
    libraries: tuple[str, ...]
    selected: frozenset[str]


def plan(root: Path, session: Session, wanted: dict[str, str], how: RunOptions) -> RunRequest:
    """Settings and code -> the plan. Nothing is written; a fault in the definition or a parameter is raised here."""
    settings = load_settings(root)
    compiled = definition.load(root)
    fault = next(reference_errors(compiled), None)
    if fault:
        raise SagegateError(f"pipeline/definition.json: {fault}: mend pipeline/pipeline.py and run `sagegate compile`")
    uris, contents = parameters.store_code(root, compiled, session.names)
    data = parameters.find_data(root, settings, session.names, session.digest)
    commit = parameters.code_commit(root)
    values = parameters.values(settings, session.environment, session.names, data, uris, commit)
    declared = {p["Name"] for p in compiled["Parameters"]}
    body = definition.with_defaults(compiled, {k: v for k, v in values.items() if k in declared})
    body = overlay.apply_environment(body, session.environment)
    if session.environment.is_local:
        body = overlay.set_caching(body, how.reads_cache)
    overrides = {"StartedBy": parameters.started_by()} if "StartedBy" in declared else {}
    overrides |= wanted
    definition.parameter_values(body, overrides)
    steps = definition.steps_of(compiled)
    check_names(steps, list(how.only))
    selected = downstream(steps, how.from_step) if how.from_step else frozenset(how.only)
    tags = pipeline_tags(settings, commit)
    return RunRequest(contents, data, json.dumps(body), overrides, tags, libraries(root, compiled), selected)


def pipeline_tags(settings: Settings, commit: str) -> dict[str, str]:
    """The tags of the pipeline: what it belongs to and which code it runs."""
    return {"project": settings.project.name, "repository": settings.project.repository, "commit": commit}


def run(root: Path, environment: str, how: RunOptions, launcher: Launcher | None) -> int:
    """The verb; its exit code: 0 if the execution succeeded, 3 if the gate rejected the candidate, else 1."""
    how.check(environment)
    wanted = parse_overrides(how.overrides)
    if not how.retry and definition.is_stale(root, load_settings(root)):
        from sagegate.pipeline.compile import compile_project

        print("pipeline/pipeline.py or the hyperparameters changed: compiling", flush=True)
        compile_project(root)
    session = open_session(root, load_settings(root), load_environment(root, environment), launcher)
    try:
        arn, state = retried(session, how.retry) if how.retry else started(root, session, wanted, how, launcher)
        if not how.waits:
            name = arn.rpartition("/")[2]
            print(
                f"execution {name} started, {state}: `sagegate status {name} --follow --env {environment}` follows it"
            )
            return 0
        code = follow_and_report(session, arn, state)
        if launcher:
            from sagegate.local import warm

            warm.note(root, libraries(root, execution_definition(session, arn)))
        remember(root)
        return code
    finally:
        session.close()


def started(
    root: Path, session: Session, wanted: dict[str, str], how: RunOptions, launcher: Launcher | None
) -> tuple[str, str]:
    """Store, upsert and start; the execution's ARN and what became of the pipeline."""
    planned = plan(root, session, wanted, how)
    store(session, planned.contents, planned.data)
    if launcher:
        launcher.libraries = planned.libraries
    state = upsert(session, planned.body, planned.tags)
    return start(session, planned.overrides, planned.selected, how.reason), f"pipeline {state}"


def retried(session: Session, name: str) -> tuple[str, str]:
    """Retry an execution; its ARN and what that is."""
    return retry(session, name), "retried"


def parse_overrides(settings: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` pairs as a dictionary."""
    for setting in settings:
        if "=" not in setting or setting.startswith("="):
            raise SagegateError(f"--set {setting}: write NAME=VALUE, such as --set max_depth=8", USAGE)
    return dict(setting.split("=", 1) for setting in settings)
