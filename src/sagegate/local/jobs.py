"""Run a SageMaker job as local processes, one per host, on folders laid out as SageMaker lays out `/opt/ml`.

A job takes the request of its Create* operation and returns the response of its Describe* operation. Each host has its
own folder in place of `/opt/ml`; that path is replaced in the entrypoint, the arguments and the environment. Sources:
"How Amazon SageMaker Processing Runs Your Processing Container" and "Use Batch Transform" in the SageMaker developer
guide. Training jobs are in training.py, tuning jobs in tuning.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sagegate.files import Json, as_json
from sagegate.local.namespace import needs_mount
from sagegate.local.processes import Command, Launcher, Running
from sagegate.local.state import now
from sagegate.local.storage import Store
from sagegate.pipeline.definition import is_job_path

OPT_ML = re.compile(r"/opt/ml(?=/|$)")
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
TRANSFORM_PROCESS = Path(__file__).with_name("transform_process.py")

ALGORITHM_ERROR = "AlgorithmError"  # an error of the script itself: no retry policy covers it
INTERNAL_ERROR = "SageMaker.JOB_INTERNAL_ERROR"


class JobFailed(Exception):
    """A failed job. The message is its FailureReason; `kind` is the exception type that retry policies name."""

    def __init__(self, reason: str, kind: str = ALGORITHM_ERROR) -> None:
        super().__init__(reason)
        self.kind = kind


class JobStopped(Exception):
    """A job that the user stopped."""


@dataclass(frozen=True)
class Context:
    """Settings and services of a job.

    `folder` is the job's own, empty folder; `log` is the file for its output. `modules` returns the libraries that a
    script imports; `stopping` is set once the execution is being stopped.
    """

    root: Path
    store: Store
    launcher: Launcher
    folder: Path
    region: str
    account_id: str
    modules: Callable[[Path], tuple[str, ...]]
    log: Path = Path()
    s3_endpoint: Callable[[], dict[str, str]] = dict  # variables by which a job's boto3 reaches the local S3
    stopping: threading.Event = field(default_factory=threading.Event)

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource of SageMaker such as `training-job/NAME`."""
        return f"arn:aws:sagemaker:{self.region}:{self.account_id}:{resource}"


@dataclass(frozen=True)
class Host:
    """One simulated instance of a job: its name, the folder in place of `/opt/ml`, and the file for its output."""

    name: str
    opt_ml: Path
    log: Path

    def localize(self, text: str) -> str:
        """Return `text` with `/opt/ml` replaced by the host's folder."""
        return OPT_ML.sub(lambda _: str(self.opt_ml), text)

    def path(self, path: str) -> Path:
        """Return the local path of a path below `/opt/ml`. Raises JobFailed for another: it would touch your files."""
        if not is_job_path(path):
            raise JobFailed(f"path {path}: a job's files are below /opt/ml")
        return Path(self.localize(path))


# --- processing and transform jobs -----------------------------------------------------------------------------------
def run_processing_job(name: str, request: Json, context: Context) -> Json:
    """Run a processing job and return its description. Raises JobFailed or JobStopped."""
    command = container_command(request["AppSpecification"])
    if not command:
        raise JobFailed(f"AppSpecification has no ContainerEntrypoint: {no_image(request['AppSpecification'])}")
    cluster = request["ProcessingResources"]["ClusterConfig"]
    hosts = make_hosts(int(cluster.get("InstanceCount", 1)), context)
    outputs = [output["S3Output"] for output in (request.get("ProcessingOutputConfig") or {}).get("Outputs") or []]
    for host in hosts:
        for entry in request.get("ProcessingInputs") or []:
            s3 = entry["S3Input"]
            copy_inputs(entry["InputName"], s3, host.path(s3["LocalPath"]), host, hosts, context)
        for output in outputs:
            host.path(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
        files = {"processingjobconfig.json": {"ProcessingJobName": name, **request}}
        write_config(host.opt_ml / "config", host, hosts, cluster.get("InstanceType", ""), files)
    variables = {"AWS_REGION": context.region, "PROCESSING_JOB_NAME": name} | (request.get("Environment") or {})
    started = now()
    limit = (request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    run_hosts(hosts, command, lambda _: variables, context, limit, "message")
    for output in outputs:
        for host in hosts:
            context.store.upload_folder(host.path(output["LocalPath"]), output["S3Uri"])
    return request | job_fields("processing-job", "Processing", name, started, context)


def run_transform_job(name: str, request: Json, model: Json, context: Context) -> Json:
    """Run a transform job and return its description; `model` is CreateModel's request.

    The model's own inference code answers, in a process of its own. With `SplitType: Line` a file's lines go in parts
    of at most MaxPayloadInMB; otherwise a file is one request. Raises JobFailed or JobStopped.
    """
    hosts = make_hosts(1, context)
    opt_ml = hosts[0].opt_ml
    for folder in ("model", "output"):
        (opt_ml / folder).mkdir()
    artifact_uri = (model.get("PrimaryContainer") or model["Containers"][0])["ModelDataUrl"]
    artifact = context.store.objects(artifact_uri)
    if not artifact:
        raise JobFailed(f"the model's artifact does not exist: {artifact_uri}")
    with tarfile.open(artifact[0][1]) as tar:
        tar.extractall(opt_ml / "model", filter="data")
    source, output = request["TransformInput"], request["TransformOutput"]
    s3 = source["DataSource"]["S3DataSource"]
    copy_inputs("TransformInput", s3, opt_ml / "input", hosts[0], hosts, context)
    settings = {
        "content_type": source.get("ContentType", "text/csv"),
        "accept": output.get("Accept", "application/json"),
        "split": source.get("SplitType", "None"),
        "assemble": output.get("AssembleWith", "None"),
        "limit": int(request.get("MaxPayloadInMB", 6)) * 1024 * 1024,
    }
    (opt_ml / "transform.json").write_text(json.dumps(settings))
    started = now()
    environment = {"SM_MODEL_DIR": "/opt/ml/model", "AWS_REGION": context.region} | (request.get("Environment") or {})
    limit = (request.get("ModelClientConfig") or {}).get("InvocationsTimeoutInSeconds")
    run_hosts(hosts, ["python3", str(TRANSFORM_PROCESS), "/opt/ml"], lambda _: environment, context, limit, "failure")
    context.store.upload_folder(opt_ml / "output", output["S3OutputPath"])
    return request | job_fields("transform-job", "Transform", name, started, context)


# --- parts of a job --------------------------------------------------------------------------------------------------
def make_hosts(count: int, context: Context) -> list[Host]:
    """Return the hosts of a job, each with an empty `/opt/ml` below the job's folder."""
    if count < 1:
        raise JobFailed(f"InstanceCount is {count}: a job needs at least one instance")
    hosts = []
    for name in (f"algo-{number}" for number in range(1, count + 1)):
        log = context.log if count == 1 else context.log.with_suffix(f".{name}.log")
        hosts.append(Host(name, context.folder / name / "opt" / "ml", log))
        hosts[-1].opt_ml.mkdir(parents=True)
    return hosts


def container_command(specification: Json) -> list[str]:
    """Return the command of a request, or an empty list if it names none. Raises JobFailed for arguments alone."""
    entrypoint, arguments = (specification.get(f"Container{part}") or [] for part in ("Entrypoint", "Arguments"))
    if arguments and not entrypoint:
        raise JobFailed(f"ContainerArguments without a ContainerEntrypoint: {no_image(specification)}")
    return [str(part) for part in (*entrypoint, *arguments)]


def no_image(specification: Json) -> str:
    """Return why a request that names an image or an algorithm, but no script, does not run, and what to do."""
    keys = ("ImageUri", "TrainingImage", "AlgorithmName")
    image = next((specification[key] for key in keys if specification.get(key)), "its image")
    return (
        f"images are not run locally ({image}), only scripts: give the step an entrypoint or a script, or run it on AWS"
    )


def copy_inputs(name: str, s3: Json, folder: Path, host: Host, hosts: list[Host], context: Context) -> None:
    """Copy the objects of one input into `folder` of a host; with ShardedByS3Key, only the host's share of them.

    Raises JobFailed if there is no object.
    """
    objects = context.store.objects(s3["S3Uri"])
    if not objects:
        raise JobFailed(f"input {name}: no object at {s3['S3Uri']}")
    if s3.get("S3DataDistributionType") == "ShardedByS3Key":
        objects = objects[hosts.index(host) :: len(hosts)]
    folder.mkdir(parents=True, exist_ok=True)
    for relative, file in objects:
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def write_config(folder: Path, host: Host, hosts: list[Host], instance_type: str, files: dict[str, Json]) -> None:
    """Write a host's configuration: `resourceconfig.json` and `files`, which maps names to contents."""
    resources = {
        "current_host": host.name,
        "hosts": [h.name for h in hosts],
        "network_interface_name": "lo",
        "current_instance_type": instance_type,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in {"resourceconfig.json": resources, **files}.items():
        (folder / file).write_bytes(as_json(content))


def run_hosts(
    hosts: list[Host],
    command: list[str],
    environment: Callable[[Host], dict[str, str]],
    context: Context,
    limit: int | None,
    message_file: str,
) -> None:
    """Run `command` on each host and wait for the end of all; the first host that fails ends the others.

    `limit` is in seconds. A script can write the reason of its failure to `/opt/ml/output/` + `message_file`. Raises
    JobFailed or JobStopped.
    """
    if limit is not None and limit < 1:
        raise JobFailed(f"MaxRuntimeInSeconds is {limit}: it must be at least 1")
    processes: list[Running] = []
    deadline = time.monotonic() + limit if limit else None
    try:
        for host in hosts:
            processes.append(_start(host, command, environment(host), context))
        while True:
            running = [process for process in processes if process.exit_code is None]
            for host, process in zip(hosts, processes, strict=True):
                if process.exit_code:
                    _fail(host, process.exit_code, len(hosts) > 1, message_file)
            if not running:
                return
            running[0].wait(0.05)
            if context.stopping.is_set():
                raise JobStopped("stopped by the user")
            if deadline and time.monotonic() > deadline:
                raise JobFailed(f"the job ran longer than its MaxRuntimeInSeconds ({limit} s)")
    finally:
        for process in processes:
            process.kill()


def _start(host: Host, command: list[str], variables: dict[str, str], context: Context) -> Running:
    local = [host.localize(part) for part in command]
    environment = {key: os.environ[key] for key in INHERITED_VARIABLES if key in os.environ}
    environment["PATH"] = context.launcher.path
    environment |= {"AWS_DEFAULT_REGION": context.region, **context.s3_endpoint()}
    environment |= {key: host.localize(str(value)) for key, value in variables.items()}
    environment["PYTHONUNBUFFERED"] = "1"
    (host.opt_ml / "output").mkdir(parents=True, exist_ok=True)
    modules = context.modules(Path(local[1])) if len(local) > 1 else ()
    mount = str(host.opt_ml) if needs_mount(local, host.opt_ml) else ""
    return context.launcher.start(Command(local, environment, host.opt_ml, host.log, modules, mount))


def _fail(host: Host, code: int, names_host: bool, message_file: str) -> None:
    """Raise JobFailed for a host's exit code: with the script's own message, else with the last line of its output."""
    file = host.opt_ml / "output" / message_file
    reason = file.read_text(errors="replace")[:1024].strip() if file.is_file() else ""
    if code < 0 and not reason:
        reason = f"ended by signal {-code}"
        reason += ": most often the machine ran out of memory" if code == -9 else ""
    if not reason:
        lines = host.log.read_text(errors="replace").strip().splitlines() if host.log.is_file() else []
        reason = lines[-1].strip()[:900] if lines else "no message"
    where = f" on {host.name}" if names_host else ""
    raise JobFailed(f"{reason} (exit code {code}{where})", INTERNAL_ERROR if code < 0 else ALGORITHM_ERROR)


def host_logs(log: Path) -> list[Path]:
    """Return the existing files with the output of a job: `log` itself, or one file per host, in their order."""
    hosts = log.parent.glob(f"{log.stem}.algo-*.log")
    return [log] if log.is_file() else sorted(hosts, key=lambda file: int(file.stem.rpartition("-")[2]))


def job_fields(resource: str, kind: str, name: str, started: datetime, context: Context) -> Json:
    """Return the fields that a job's Describe* response adds to its request: name, ARN, status and times."""
    return {
        f"{kind}JobName": name,
        f"{kind}JobArn": context.arn(f"{resource}/{name}"),
        f"{kind}JobStatus": "Completed",
        "CreationTime": started,
        f"{kind}StartTime": started,
        f"{kind}EndTime": now(),
    }
