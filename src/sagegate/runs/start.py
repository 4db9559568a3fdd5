"""`sagegate run`: compile if stale, upload code and data, upsert the pipeline, start it, follow it and report."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sagegate.config import Settings, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json, split_uri
from sagegate.markdown import append_summary, verdict_summary
from sagegate.output import verdict
from sagegate.pins import stale_image
from sagegate.pipeline import definition, parameters
from sagegate.pipeline.code import check_hyperparameters, libraries
from sagegate.pipeline.validate import reference_errors
from sagegate.registry.models import describe_model, ensure_champion, packages_of
from sagegate.runs.executions import execution_definition, execution_parameters
from sagegate.runs.follow import follow_and_report
from sagegate.runs.tracking import check_installed
from sagegate.session import Session, is_missing, open_session, paginate

if TYPE_CHECKING:
    from sagegate.local.processes import Launcher

DESCRIPTION_LENGTH = 3072  # PipelineExecutionDescription in the SageMaker API reference


@dataclass(frozen=True)
class RunOptions:
    """The options of `sagegate run`: `NAME=VALUE` overrides, which steps to run, whether to wait for the end."""

    overrides: tuple[str, ...] = ()
    reads_cache: bool = True
    from_step: str | None = None
    only: tuple[str, ...] = ()
    retry: str | None = None
    waits: bool = True
    reason: str = ""
    again: bool = False

    def check(self, environment: str) -> None:
        """Raise SagegateError for options that exclude each other."""
        if sum(map(bool, (self.from_step, self.only, self.retry))) > 1 or (self.retry and self.overrides):
            raise SagegateError("--from, --only and --retry exclude each other, and --retry takes no --set", USAGE)
        if environment == "local" and not self.waits:
            raise SagegateError("--no-wait needs --env: a local pipeline runs inside the command", USAGE)
        if environment != "local" and not self.reads_cache:
            raise SagegateError("--no-cache is for local runs: on AWS, CacheConfig in pipeline.py decides", USAGE)

    def parameters(self) -> dict[str, str]:
        """Return the overrides as a dictionary; raise SagegateError for one that is not NAME=VALUE."""
        for setting in self.overrides:
            if "=" not in setting or setting.startswith("="):
                raise SagegateError(f"--set {setting}: write NAME=VALUE, such as --set max_depth=8", USAGE)
        return dict(setting.split("=", 1) for setting in self.overrides)


@dataclass(frozen=True)
class RunRequest:
    """Request of a run. `contents` maps keys to the content to upload, `body` is the definition as JSON."""

    contents: dict[str, bytes]
    data: parameters.Data
    body: str
    overrides: dict[str, str]
    tags: dict[str, str]
    selected: frozenset[str]


def run(root: Path, environment: str, options: RunOptions, launcher: Launcher | None) -> int:
    """Run the pipeline; return the exit code: 0 succeeded, 3 rejected by the gate, 1 failed."""
    options.check(environment)
    options.parameters()  # raises an error before anything is compiled
    settings = load_settings(root)
    check_hyperparameters(root, settings.hyperparameters)
    if not options.retry and definition.is_stale(root, settings):
        from sagegate.pipeline.compile import compile_project

        print("pipeline/pipeline.py, [hyperparameters] or [tuning] changed: compiling", flush=True)
        compile_project(root)
    session = open_session(root, environment, launcher)
    try:
        if not session.environment.is_local and not options.retry and (stale := stale_image(root, session.settings)):
            raise SagegateError(stale)
        check_installed(session)
        request = None if options.retry else prepare(session, options)
        if request and options.reads_cache and not options.again and (model := model_of(session, request)):
            again = f"sagegate run --again{session.option} runs it all the same"
            verdict(True, f"nothing new to run: {model}", again)
            append_summary(verdict_summary(True, f"{environment}: nothing new to run", model, again))
            return 0
        with session.exclusive():
            arn, note = _begin(session, options, request)
        if not options.waits:
            name = arn.rpartition("/")[2]
            print(f"execution {name} started, {note}: `sagegate status {name} --follow --env {environment}` follows it")
            return 0
        code = follow_and_report(session, arn, note)
        if launcher:
            from sagegate.local.processes import remember_libraries

            remember_libraries(root, libraries(root, execution_definition(session, arn)))
        return code
    finally:
        session.close()


def model_of(session: Session, request: RunRequest) -> str | None:
    """Return a line on the newest model if it was made from the same definition, code, data and parameters.

    Running them again would register the same model as another version. Commits may differ.
    """
    packages = packages_of(session)
    if request.selected or not packages or packages[0]["ModelApprovalStatus"] == "Damaged":
        return None
    package = describe_model(session, packages[0]["ModelPackageVersion"])
    arn = package.get("CustomerMetadataProperties", {}).get("execution", "")
    if arn != session.names.execution(arn.rpartition("/")[2]):  # this pipeline did not register it
        return None
    try:
        before, given = execution_definition(session, arn), execution_parameters(session, arn)
    except Exception as error:
        if is_missing(session, error):
            return None
        raise
    if _without_origin(before, given) != _without_origin(json.loads(request.body), request.overrides):
        return None
    status, reason = package["ModelApprovalStatus"], package.get("ApprovalDescription")
    known = f"{status}: {reason}" if reason else status
    return f"model {package['ModelPackageVersion']} ({known}) was made from this code, data and settings"


def _without_origin(body: Json, given: dict[str, str]) -> Json:
    """Return a definition with its parameters' values, but without who started it at which commit."""
    values = {p["Name"]: str(p.get("DefaultValue")) for p in body.get("Parameters") or []} | given
    return body | {"Parameters": values | {"StartedBy": "", "CodeCommit": ""}}


def _begin(session: Session, options: RunOptions, request: RunRequest | None) -> tuple[str, str]:
    """Start the execution; return its ARN and a note on what was done before."""
    if request is None:
        return retry(session, str(options.retry)), "retried"
    upload(session, request.contents, request.data)
    change, version = upsert(session, request.body, request.tags)
    return start(session, version, request.overrides, request.selected, options.reason), f"pipeline {change}"


def prepare(session: Session, options: RunOptions, is_checked: bool = True) -> RunRequest:
    """Return the request of a run, writing nothing; raise SagegateError for a broken definition or parameter.

    `is_checked` is False for what will not run, such as an earlier commit's pipeline.
    """
    root, settings = session.root, session.settings
    compiled = definition.load(root)
    error = next(reference_errors(compiled), None)
    if error:
        raise SagegateError(f"pipeline/definition.json: {error}: fix pipeline/pipeline.py and run `sagegate compile`")
    uris, contents = parameters.pack_code(root, compiled, session.names)
    data = parameters.find_data(root, settings, session.environment, session.names, session.digest)
    commit = parameters.code_commit(root)
    values = parameters.environment_values(settings, session.environment, session.names, data, uris, commit)
    declared = {parameter["Name"] for parameter in compiled.get("Parameters") or []}
    body = definition.with_defaults(compiled, {name: value for name, value in values.items() if name in declared})
    body = parameters.apply_environment(body, session.environment)
    if session.environment.is_local:
        body = parameters.set_caching(body, options.reads_cache)
    given = options.parameters()
    for name in given:
        if settings.tuning and name in settings.tuning.ranges:
            todo = f"remove tuning.ranges.{name} from mlops.toml to choose it yourself"
            raise SagegateError(f"--set {name}: [tuning] searches the best value: {todo}", USAGE)
    tags = {"project": settings.project.name, "repository": settings.project.repository, "commit": commit}
    recorded = {"StartedBy": parameters.metadata_text(parameters.started_by())}
    if given:
        recorded["Overrides"] = " ".join(f"{name}={value}" for name, value in sorted(given.items()))
        if parameters.metadata_text(recorded["Overrides"]) != recorded["Overrides"]:
            allowed = "256 letters, digits, spaces and _ . : / = + - @ in all"
            raise SagegateError(
                f"--set: the model records what is set, at most {allowed}: edit mlops.toml instead", USAGE
            )
    overrides = {name: value for name, value in recorded.items() if name in declared} | given
    found = definition.parameter_values(body, overrides)
    if not session.environment.is_local:
        check_overrides(given, settings)
        if is_checked:
            check_requests(session, body, found, overrides, tags)
    steps = definition.steps_of(compiled)
    definition.check_names(steps, list(options.only))
    selected = definition.downstream(steps, options.from_step) if options.from_step else frozenset(options.only)
    return RunRequest(contents, data, json.dumps(body), overrides, tags, selected)


def check_overrides(overrides: dict[str, str], settings: Settings) -> None:
    """Raise SagegateError unless all are hyperparameters: who starts a run must not choose its gate or its commit."""
    for name in overrides:
        if name not in settings.hyperparameters:
            allowed = ", ".join(sorted(settings.hyperparameters))
            raise SagegateError(
                f"--set {name}: on AWS only hyperparameters can be set ({allowed}): change {name} in mlops.toml or "
                "environments/*.toml, and commit it",
                USAGE,
            )


def check_requests(session: Session, body: Json, values: Json, overrides: dict[str, str], tags: dict[str, str]) -> None:
    """Raise SagegateError for a value that SageMaker would refuse: now, or in a step after hours of training."""
    from sagegate.pipeline.shapes import argument_errors, request_errors  # botocore is slow to import

    create, start = create_request(session, json.dumps(body), tags), start_request(session, overrides)
    errors = [
        *argument_errors(body, values),
        *(f"CreatePipeline: {error}" for error in request_errors("CreatePipeline", create)),
        *(f"StartPipelineExecution: {error}" for error in request_errors("StartPipelineExecution", start)),
    ]
    if errors:
        raise SagegateError(f"SageMaker would refuse this: {errors[0]}", USAGE)


def create_request(session: Session, body: str, tags: dict[str, str]) -> Json:
    """Return the request of CreatePipeline. A tag's value has at most 256 characters."""
    return {
        "PipelineName": session.names.pipeline,
        "PipelineDefinition": body,
        "RoleArn": session.names.role,
        "ClientRequestToken": request_token(),
        "Tags": [{"Key": key, "Value": value[:256]} for key, value in sorted(tags.items())],
    }


def start_request(session: Session, overrides: dict[str, str]) -> Json:
    """Return the request of StartPipelineExecution, without a version."""
    return {
        "PipelineName": session.names.pipeline,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in overrides.items()],
        "ClientRequestToken": request_token(),  # boto3 repeats a lost call: it must not start a second execution
    }


def upload(session: Session, contents: dict[str, bytes], data: parameters.Data) -> None:
    """Upload the code packages and data that the bucket lacks. Their keys hold digests, so they never change."""
    bucket, _ = split_uri(session.names.artifacts)
    for key in _missing(session, list(contents), f"{session.names.artifacts}/code/"):
        session.s3.put_object(Bucket=bucket, Key=key, Body=contents[key])
    if data.files:
        _, prefix = split_uri(data.uri)
        files = {f"{prefix}/{name}": file for name, file in data.files.items()}
        for key in _missing(session, list(files), f"{data.uri}/"):
            session.s3.upload_file(str(files[key]), bucket, key)
    ensure_champion(session)


def _missing(session: Session, keys: list[str], uri: str) -> list[str]:
    """Return those of `keys` that the bucket does not have below `uri`.

    Locally, all of them: the store leaves what it has, and writes what was damaged or edited there again.
    """
    if session.environment.is_local:
        return keys
    bucket, prefix = split_uri(uri)
    objects = paginate(session.s3, "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    known = {item["Key"] for item in objects}
    return [key for key in keys if key not in known]


def upsert(session: Session, body: str, tags: dict[str, str]) -> tuple[str, int]:
    """Create the pipeline, or update it if it differs; return `created`, `updated` or `unchanged`, and the version.

    An execution of that version runs this definition, even if somebody else updates the pipeline before it starts.
    """
    request = create_request(session, body, tags)
    versions = pipeline_versions(session)
    if versions is None:
        try:
            session.sagemaker.create_pipeline(**request)
        except Exception:
            versions = pipeline_versions(session)  # another run created it, or the response to our call was lost
            if versions is None:
                raise
        else:
            versions = pipeline_versions(session)  # the response does not have the version
            if versions:
                return "created", min(versions)  # ours; another run may have updated it since
    if versions:
        newest = {"PipelineName": session.names.pipeline, "PipelineVersionId": max(versions)}
        existing = session.sagemaker.describe_pipeline(**newest)
        if is_current(session, existing, body):
            return "unchanged", max(versions)
    changed = {key: request[key] for key in ("PipelineName", "PipelineDefinition", "RoleArn")}
    updated = session.sagemaker.update_pipeline(**changed)
    session.sagemaker.add_tags(ResourceArn=updated["PipelineArn"], Tags=request["Tags"])
    return "updated", int(updated["PipelineVersionId"])


def pipeline_versions(session: Session) -> list[int] | None:
    """Return the versions of the pipeline, or None if there is no pipeline yet."""
    try:
        listed = paginate(
            session.sagemaker,
            "list_pipeline_versions",
            "PipelineVersionSummaries",
            PipelineName=session.names.pipeline,
        )
        return [int(summary["PipelineVersionId"]) for summary in listed]
    except Exception as error:
        if is_missing(session, error):
            return None
        raise


def is_current(session: Session, existing: Json, body: str) -> bool:
    """Return True if an existing pipeline has this definition and the environment's role."""
    return bool(
        json.loads(existing["PipelineDefinition"]) == json.loads(body) and existing["RoleArn"] == session.names.role
    )


def describe_pipeline(session: Session) -> Json | None:
    """Return the pipeline as SageMaker describes it, or None if there is none yet."""
    try:
        found: Json = session.sagemaker.describe_pipeline(PipelineName=session.names.pipeline)
    except Exception as error:
        if is_missing(session, error):
            return None
        raise
    return found


def start(session: Session, version: int, overrides: dict[str, str], selected: frozenset[str], reason: str = "") -> str:
    """Start an execution of a version of the pipeline and return its ARN.

    With `selected`, other steps' results come from an earlier execution.
    """
    request = start_request(session, overrides) | {"PipelineVersionId": version}
    if reason:
        request["PipelineExecutionDescription"] = " ".join(reason.split())[:DESCRIPTION_LENGTH]
    if selected:
        chosen = [{"StepName": name} for name in sorted(selected)]
        source = _source_execution(session)
        request["SelectiveExecutionConfig"] = {"SelectedSteps": chosen, "SourcePipelineExecutionArn": source}
    return str(session.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"])


def _source_execution(session: Session) -> str:
    """Return the ARN of the latest execution that ended and was not stopped."""
    request = {"PipelineName": session.names.pipeline, "SortBy": "CreationTime", "SortOrder": "Descending"}
    executions = paginate(session.sagemaker, "list_pipeline_executions", "PipelineExecutionSummaries", **request)
    for summary in executions:
        if summary["PipelineExecutionStatus"] in ("Succeeded", "Failed"):
            return str(summary["PipelineExecutionArn"])
    raise SagegateError("there is no earlier execution to take results from: run the whole pipeline first")


def retry(session: Session, name: str) -> str:
    """Start the failed steps of an ended execution again; return its ARN."""
    arn = session.names.execution(name)
    try:
        session.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=request_token())
    except Exception as error:
        if is_missing(session, error):
            raise SagegateError(f"there is no execution {name}: `sagegate status{session.option}` lists them") from None
        raise
    return arn


def request_token() -> str:
    """Return a new ClientRequestToken: SageMaker wants 32 to 128 characters."""
    return uuid.uuid4().hex
