"""Run a SageMaker job as local processes, one per host, on folders laid out as SageMaker lays out `/opt/ml`.

A processing job takes CreateProcessingJob's request and returns DescribeProcessingJob's response. Each host has its own
folder in place of `/opt/ml`; that path is replaced in the entrypoint, the arguments and the environment. Source: "How
Amazon SageMaker Processing Runs Your Processing Container" in the SageMaker developer guide.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sagegate.files import Json, as_json
from sagegate.local.namespace import needs_mount
from sagegate.local.processes import Command, Launcher, Running
from sagegate.local.state import now
from sagegate.local.storage import Store

OPT_ML = re.compile(r"/opt/ml(?=/|$)")
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")

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
    script imports; `stopped` returns True once the execution is being stopped.
    """

    root: Path
    store: Store
    launcher: Launcher
    folder: Path
    log: Path
    region: str
    account_id: str
    modules: Callable[[Path], tuple[str, ...]]
    stopped: Callable[[], bool]


@dataclass(frozen=True)
class Host:
    """One simulated instance of a job: its name and the folder in place of `/opt/ml`."""

    name: str
    opt_ml: Path

    def localize(self, text: str) -> str:
        """Return `text` with `/opt/ml` replaced by the host's folder."""
        return OPT_ML.sub(lambda _: str(self.opt_ml), text)

    def path(self, path: str) -> Path:
        """Return the local path of a path below `/opt/ml`."""
        return Path(self.localize(path))


def run_processing_job(name: str, request: Json, context: Context) -> Json:
    """Run a processing job and return its description. Raises JobFailed or JobStopped."""
    application = request["AppSpecification"]
    command = [*(application.get("ContainerEntrypoint") or []), *(application.get("ContainerArguments") or [])]
    if not command:
        raise JobFailed("AppSpecification has no ContainerEntrypoint: a local job has no image to take it from")
    cluster = request["ProcessingResources"]["ClusterConfig"]
    hosts = make_hosts(int(cluster.get("InstanceCount", 1)), context.folder)
    outputs = [output["S3Output"] for output in (request.get("ProcessingOutputConfig") or {}).get("Outputs") or []]
    for index, host in enumerate(hosts):
        for entry in request.get("ProcessingInputs") or []:
            s3 = entry["S3Input"]
            copy_inputs(entry["InputName"], s3, host.path(s3["LocalPath"]), index, len(hosts), context)
        for output in outputs:
            host.path(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
        files = {"processingjobconfig.json": {"ProcessingJobName": name, **request}}
        write_config(host.opt_ml / "config", host, hosts, cluster.get("InstanceType", ""), files)
    variables = {"AWS_REGION": context.region, "PROCESSING_JOB_NAME": name} | (request.get("Environment") or {})
    started = now()
    limit = (request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    run_hosts(hosts, [str(part) for part in command], lambda host: variables, context, limit, "message")
    for output in outputs:
        for host in hosts:
            context.store.upload_folder(host.path(output["LocalPath"]), output["S3Uri"])
    return request | job_fields("processing-job", "Processing", name, started, context)


def make_hosts(count: int, folder: Path) -> list[Host]:
    """Return the hosts of a job, each with an empty `/opt/ml` below the job's folder."""
    hosts = [Host(f"algo-{i + 1}", folder / f"algo-{i + 1}" / "opt" / "ml") for i in range(count)]
    for host in hosts:
        host.opt_ml.mkdir(parents=True)
    return hosts


def copy_inputs(name: str, s3: Json, folder: Path, index: int, count: int, context: Context) -> None:
    """Copy the objects of one input into `folder` of the host `index` of `count`.

    With ShardedByS3Key each host gets every count-th object. Raises JobFailed if there is no object.
    """
    objects = context.store.objects(s3["S3Uri"])
    if not objects:
        raise JobFailed(f"input {name}: no object at {s3['S3Uri']}")
    if s3.get("S3DataDistributionType") == "ShardedByS3Key":
        objects = objects[index::count]
    folder.mkdir(parents=True, exist_ok=True)
    context.store.download(objects, folder)


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
    processes: list[Running] = []
    deadline = time.monotonic() + limit if limit else None
    try:
        for host in hosts:
            processes.append(_start(host, hosts, command, environment(host), context))
        while True:
            running = [process for process in processes if process.exit_code is None]
            _check_exit_codes(hosts, processes, context, message_file)
            if not running:
                return
            running[0].wait(0.05)
            if context.stopped():
                raise JobStopped("stopped by the user")
            if deadline and time.monotonic() > deadline:
                raise JobFailed(f"the job ran longer than its MaxRuntimeInSeconds ({limit} s)")
    finally:
        for process in processes:
            process.kill()


def _start(host: Host, hosts: list[Host], command: list[str], variables: dict[str, str], context: Context) -> Running:
    local = [host.localize(part) for part in command]
    environment = {key: os.environ[key] for key in INHERITED_VARIABLES if key in os.environ}
    environment["PATH"] = context.launcher.path
    environment |= {key: host.localize(str(value)) for key, value in variables.items()}
    environment["PYTHONUNBUFFERED"] = "1"
    (host.opt_ml / "output").mkdir(parents=True, exist_ok=True)
    modules = context.modules(Path(local[1])) if len(local) > 1 else ()
    mount = str(host.opt_ml) if needs_mount(local, host.opt_ml) else ""
    log = _host_log(context.log, host, hosts)
    return context.launcher.start(Command(local, environment, host.opt_ml, log, modules, mount))


def _check_exit_codes(hosts: list[Host], processes: list[Running], context: Context, message_file: str) -> None:
    for host, process in zip(hosts, processes, strict=True):
        code = process.exit_code
        if not code:
            continue
        file = host.opt_ml / "output" / message_file
        reason = file.read_text(errors="replace")[:1024].strip() if file.is_file() else ""
        if code < 0 and not reason:
            reason = f"ended by signal {-code}"
            reason += ": most often the machine ran out of memory" if code == -9 else ""
        reason = reason or _last_line(_host_log(context.log, host, hosts)) or "no message"
        where = f" on {host.name}" if len(hosts) > 1 else ""
        raise JobFailed(f"{reason} (exit code {code}{where})", INTERNAL_ERROR if code < 0 else ALGORITHM_ERROR)


def _host_log(log: Path, host: Host, hosts: list[Host]) -> Path:
    return log if len(hosts) == 1 else log.with_suffix(f".{host.name}.log")


def host_logs(log: Path) -> list[Path]:
    """Return the files with the output of a job: `log` itself, or one file per host, in their order."""
    hosts = log.parent.glob(f"{log.stem}.algo-*.log")
    return [log] if log.is_file() else sorted(hosts, key=lambda file: int(file.stem.rpartition("-")[2]))


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    return lines[-1].strip()[:900] if lines else ""


def job_fields(resource: str, kind: str, name: str, started: datetime, context: Context) -> Json:
    """Return the fields that a job's Describe* response adds to its request: name, ARN, status and times."""
    return {
        f"{kind}JobName": name,
        f"{kind}JobArn": f"arn:aws:sagemaker:{context.region}:{context.account_id}:{resource}/{name}",
        f"{kind}JobStatus": "Completed",
        "CreationTime": started,
        f"{kind}StartTime": started,
        f"{kind}EndTime": now(),
    }
