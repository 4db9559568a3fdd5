"""One SageMaker job on this machine: N processes, one per host, under the `/opt/ml` contract.

A request of CreateProcessingJob goes in, a description in the shape of DescribeProcessingJob comes out; training.py
does the same for training jobs. Each host has a folder of its own in place of `/opt/ml`; that path is replaced
wherever it stands in the entrypoint, the arguments and the environment. Source: "How Amazon SageMaker Processing Runs
Your Processing Container" in the SageMaker developer guide.
A training job on this machine: CreateTrainingJob's request in, DescribeTrainingJob's response out.

It runs the request's ContainerEntrypoint and ContainerArguments, such as the driver that SDK v3 makes of `SourceCode`;
without them what the framework images run, script mode. Sources: "How Amazon SageMaker Provides Training Information"
in the SageMaker developer guide; `mapping.py` and `environment.py` of the sagemaker-training toolkit.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagegate.files import archive, as_json, files_under
from sagegate.local.launcher import Command, Launcher, Running
from sagegate.local.namespace import needs_mount
from sagegate.local.storage import Store

Json = dict[str, Any]
OPT_ML = re.compile(r"/opt/ml(?=/|$)")
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")


ALGORITHM_ERROR = "AlgorithmError"  # the script's own fault: no retry policy covers it
INTERNAL_ERROR = "SageMaker.JOB_INTERNAL_ERROR"


class JobFailed(Exception):
    """A job that did not complete; the text is its FailureReason, `kind` what a retry policy calls it."""

    def __init__(self, reason: str, kind: str = ALGORITHM_ERROR) -> None:
        super().__init__(reason)
        self.kind = kind


class JobStopped(Exception):
    """A job that was stopped from outside."""


@dataclass(frozen=True)
class Context:
    """What a job needs to run: where it may write, and what starts its processes.

    `modules` tells which libraries a script (by its path) imports; `stopped` whether the execution is being stopped.
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


@dataclass
class Host:
    """One simulated machine of a job: its name and the folder that stands for `/opt/ml`."""

    name: str
    opt_ml: Path

    def place(self, path: str) -> Path:
        """Where a path below `/opt/ml` is on this machine."""
        return Path(self.local(path))

    def local(self, text: str) -> str:
        """`text` with `/opt/ml` replaced by this host's folder."""
        return OPT_ML.sub(lambda _: str(self.opt_ml), text)


def process(name: str, request: Json, context: Context) -> Json:
    """Run a processing job; its description. Raises JobFailed or JobStopped."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    hosts = make_hosts(int(cluster.get("InstanceCount", 1)), context.folder)
    application = request["AppSpecification"]
    inputs = request.get("ProcessingInputs") or []
    outputs = (request.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    for index, host in enumerate(hosts):
        for entry in inputs:
            s3 = entry["S3Input"]
            fetch(entry["InputName"], s3, host.place(s3["LocalPath"]), index, len(hosts), context)
        for output in outputs:
            host.place(output["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
        told = {"processingjobconfig.json": {"ProcessingJobName": name, **request}}
        write_config(host.opt_ml / "config", host, hosts, cluster.get("InstanceType", ""), told)
    argv = [*(application.get("ContainerEntrypoint") or []), *(application.get("ContainerArguments") or [])]
    if not argv:
        raise JobFailed("AppSpecification has no ContainerEntrypoint: locally there is no image to take it from")
    limit = (request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    started = datetime.now(UTC)
    own = {"AWS_REGION": context.region, "PROCESSING_JOB_NAME": name}
    environment = own | (request.get("Environment") or {})
    run_hosts(hosts, [str(part) for part in argv], lambda host: environment, context, limit, "message")
    for output in outputs:
        for host in hosts:
            context.store.upload_folder(host.place(output["S3Output"]["LocalPath"]), output["S3Output"]["S3Uri"])
    return describe("processing-job", "Processing", name, request, started, context)


def run_hosts(
    hosts: list[Host],
    argv: list[str],
    environment: Callable[[Host], dict[str, str]],
    context: Context,
    limit: int | None,
    message_file: str,
) -> None:
    """Run `argv` on each host and wait; the first host that fails ends the others."""
    processes: list[Running] = []
    inherited = {key: os.environ[key] for key in KEPT if key in os.environ}
    path = {"PATH": context.launcher.path}
    for host in hosts:
        local = [host.local(part) for part in argv]
        log = _log(context, host, hosts)
        own = {key: host.local(str(value)) for key, value in environment(host).items()}
        own["PYTHONUNBUFFERED"] = "1"
        (host.opt_ml / "output").mkdir(parents=True, exist_ok=True)
        modules = context.modules(Path(local[1])) if len(local) > 1 else ()
        mount = str(host.opt_ml) if needs_mount(local, host.opt_ml) else ""
        command = Command(local, inherited | path | own, host.opt_ml, log, modules, mount)
        processes.append(context.launcher.start(command))
    deadline = time.monotonic() + limit if limit else None
    failure = None
    try:
        while failure is None and any(p.exit_code is None for p in processes):
            next(p for p in processes if p.exit_code is None).wait(0.05)
            if context.stopped():
                raise JobStopped("stopped by the user")
            if deadline and time.monotonic() > deadline:
                raise JobFailed(f"the job ran longer than its MaxRuntimeInSeconds ({limit} s)")
            failure = _first_failure(hosts, processes, context, message_file)
        failure = failure or _first_failure(hosts, processes, context, message_file)
    finally:
        for running in processes:
            running.kill()
    if failure:
        raise failure


def _first_failure(
    hosts: list[Host], processes: list[Running], context: Context, message_file: str
) -> JobFailed | None:
    for host, running in zip(hosts, processes, strict=True):
        if running.exit_code:
            where = f" on {host.name}" if len(hosts) > 1 else ""
            file = host.opt_ml / "output" / message_file
            said = file.read_text(errors="replace")[:1024].strip() if file.is_file() else ""
            if running.exit_code < 0 and not said:
                said = f"ended by signal {-running.exit_code}"
                said += ": most often the machine ran out of memory" if running.exit_code == -9 else ""
            reason = said or _last_line(_log(context, host, hosts)) or "no message"
            kind = INTERNAL_ERROR if running.exit_code < 0 else ALGORITHM_ERROR
            return JobFailed(f"{reason} (exit code {running.exit_code}{where})", kind)
    return None


def _log(context: Context, host: Host, hosts: list[Host]) -> Path:
    return context.log if len(hosts) == 1 else context.log.with_suffix(f".{host.name}.log")


def logs_of(log: Path) -> list[Path]:
    """The files that hold the output of a job whose log is `log`: that one, or one for each of its hosts, in order."""
    hosts = log.parent.glob(f"{log.stem}.algo-*.log")
    return [log] if log.is_file() else sorted(hosts, key=lambda file: int(file.stem.rpartition("-")[2]))


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    return lines[-1].strip()[:900] if lines else ""


def make_hosts(count: int, folder: Path) -> list[Host]:
    """The hosts of a job, each with an empty `/opt/ml` in the job's own folder."""
    hosts = [Host(f"algo-{i + 1}", folder / f"algo-{i + 1}" / "opt" / "ml") for i in range(count)]
    for host in hosts:
        host.opt_ml.mkdir(parents=True)
    return hosts


def fetch(name: str, s3: Json, place: Path, index: int, count: int, context: Context) -> None:
    """Copy an input's objects; with ShardedByS3Key every host gets each count-th object."""
    objects = context.store.objects(s3["S3Uri"])
    if not objects:
        raise JobFailed(f"input {name}: no object at {s3['S3Uri']}")
    if s3.get("S3DataDistributionType") == "ShardedByS3Key":
        objects = objects[index::count]
    place.mkdir(parents=True, exist_ok=True)
    context.store.download(objects, place)


def write_config(folder: Path, host: Host, hosts: list[Host], instance_type: str, told: Json) -> None:
    """The files that tell a host of a job what it is: `resourceconfig.json` and `told`, contents by name.

    The job that reads them starts after this, so they are written in the plain way.
    """
    names = [h.name for h in hosts]
    resources = {"current_host": host.name, "hosts": names, "network_interface_name": "lo"}
    resources["current_instance_type"] = instance_type
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in {"resourceconfig.json": resources, **told}.items():
        (folder / file).write_bytes(as_json(content))


def describe(resource: str, kind: str, name: str, request: Json, started: datetime, context: Context) -> Json:
    """The Describe* response's common part: the request, the name, the ARN, the status and the times."""
    arn = f"arn:aws:sagemaker:{context.region}:{context.account_id}:{resource}/{name}"
    return request | {
        f"{kind}JobName": name,
        f"{kind}JobArn": arn,
        f"{kind}JobStatus": "Completed",
        "CreationTime": started,
        f"{kind}StartTime": started,
        f"{kind}EndTime": datetime.now(UTC),
    }


def train(name: str, request: Json, context: Context) -> Json:
    """Run a training job; its description. Raises JobFailed or JobStopped."""
    resources = request["ResourceConfig"]
    hosts = make_hosts(int(resources.get("InstanceCount", 1)), context.folder)
    given = {key: str(value) for key, value in (request.get("HyperParameters") or {}).items()}
    hyperparameters = {key: _decoded(value) for key, value in given.items()}
    channels = request.get("InputDataConfig") or []
    for index, host in enumerate(hosts):
        for channel in channels:
            s3 = channel["DataSource"]["S3DataSource"]
            place = host.opt_ml / "input" / "data" / channel["ChannelName"]
            fetch(channel["ChannelName"], s3, place, index, len(hosts), context)
        for folder in ("model", "output/data", "code"):
            (host.opt_ml / folder).mkdir(parents=True, exist_ok=True)
        data = {channel["ChannelName"]: _channel_config(channel) for channel in channels}
        told = {"hyperparameters.json": given, "inputdataconfig.json": data}
        write_config(host.opt_ml / "input" / "config", host, hosts, resources.get("InstanceType", ""), told)
    argv = own_command = _own_command(request["AlgorithmSpecification"])
    if not own_command:
        for host in hosts:
            _unpack_code(hyperparameters, host.opt_ml / "code", context.store)
        argv = ["python3", f"/opt/ml/code/{hyperparameters.get('sagemaker_program', 'train.py')}"]
        argv += _flags(_own(hyperparameters))
    limit = (request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    started = datetime.now(UTC)
    names = [host.name for host in hosts]

    def environment(host: Host) -> dict[str, str]:
        # With its own entrypoint a job gets no SM_ variables, there as here: the image's toolkit would set them.
        set_here = {"TRAINING_JOB_NAME": name, "AWS_REGION": context.region}
        if not own_command:
            set_here |= _script_mode(host, names, channels, hyperparameters)
        return set_here | (request.get("Environment") or {})

    run_hosts(hosts, argv, environment, context, limit, "failure")
    prefix = f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output"
    model = {n: content for host in hosts for n, content in files_under(host.opt_ml / "model").items()}
    packed = context.folder / "packed"
    packed.mkdir()
    (packed / "model.tar.gz").write_bytes(archive(model))
    context.store.upload_folder(packed, prefix)
    description = describe("training-job", "Training", name, request, started, context)
    return description | {
        "ModelArtifacts": {"S3ModelArtifacts": f"{prefix}/model.tar.gz"},
        "SecondaryStatus": "Completed",
        "BillableTimeInSeconds": max(1, round((description["TrainingEndTime"] - started).total_seconds())),
    }


def _own_command(algorithm: Json) -> list[str]:
    entrypoint, arguments = algorithm.get("ContainerEntrypoint") or [], algorithm.get("ContainerArguments") or []
    if arguments and not entrypoint:
        raise JobFailed("ContainerArguments without a ContainerEntrypoint: locally there is no image to take it from")
    return [str(part) for part in (*entrypoint, *arguments)]


def _channel_config(channel: Json) -> Json:
    distribution = channel["DataSource"]["S3DataSource"].get("S3DataDistributionType", "FullyReplicated")
    return {"TrainingInputMode": "File", "S3DistributionType": distribution, "RecordWrapperType": "None"}


def _decoded(text: str) -> Any:
    """A hyperparameter as the toolkit takes it: what it is as JSON (SDK v2 quotes text), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _own(hyperparameters: Json) -> Json:
    return {key: value for key, value in hyperparameters.items() if not key.startswith("sagemaker_")}


def _flags(hyperparameters: Json) -> list[str]:
    """A script's arguments as the toolkit makes them: one dash for a name of one letter, `True` for true."""
    flags = []
    for key, value in sorted(hyperparameters.items()):
        text = ",".join(f"{k}={v}" for k, v in sorted(value.items())) if isinstance(value, dict) else value
        flags += [f"--{key}" if len(key) > 1 else f"-{key}", "" if text is None else str(text)]
    return flags


def _variable(value: Any) -> str:
    """An SM_ variable's text, as the toolkit writes it."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _unpack_code(hyperparameters: Json, folder: Path, store: Store) -> None:
    uri = str(hyperparameters.get("sagemaker_submit_directory", ""))
    objects = store.objects(uri) if uri.startswith("s3://") else []
    if not objects:
        raise JobFailed(f"sagemaker_submit_directory: no code package at {uri or '(not given)'}")
    with tarfile.open(objects[0][1]) as tar:
        tar.extractall(folder, filter="data")


def _script_mode(host: Host, names: list[str], channels: list[Json], hyperparameters: Json) -> dict[str, str]:
    """The SM_ variables that sagemaker-training sets for a script."""
    own = _own(hyperparameters)
    variables = {
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_INPUT_DIR": "/opt/ml/input",
        "SM_INPUT_CONFIG_DIR": "/opt/ml/input/config",
        "SM_OUTPUT_DIR": "/opt/ml/output",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
        "SM_CHANNELS": json.dumps(sorted(c["ChannelName"] for c in channels)),
        "SM_HOSTS": json.dumps(names),
        "SM_CURRENT_HOST": host.name,
        "SM_NUM_GPUS": "0",
        "SM_NUM_CPUS": str(os.cpu_count() or 1),
        "SM_HPS": _variable(own),
        "SM_NETWORK_INTERFACE_NAME": "lo",
    }
    variables |= {f"SM_CHANNEL_{c['ChannelName'].upper()}": f"/opt/ml/input/data/{c['ChannelName']}" for c in channels}
    return variables | {f"SM_HP_{key.upper()}": _variable(value) for key, value in own.items()}
