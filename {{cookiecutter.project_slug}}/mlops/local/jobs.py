"""One SageMaker job on this machine: N processes, one per host, under the `/opt/ml` contract.

A request of CreateProcessingJob or CreateTrainingJob goes in, a description in the shape of DescribeProcessingJob or
DescribeTrainingJob comes out. Each host has a folder of its own in place of `/opt/ml`; that path is replaced wherever
it stands in the entrypoint, the arguments and the environment. Sources: "How Amazon SageMaker Processing Runs Your
Processing Container" and "How Amazon SageMaker Provides Training Information" in the SageMaker developer guide.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.files import archive, files_under, write_json
from mlops.local.launcher import Command, Launcher, Running
from mlops.local.store import Store

Json = dict[str, Any]
OPT_ML = re.compile(r"/opt/ml(?=/|$)")
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")


class JobFailed(Exception):
    """A job that did not complete; the text is its FailureReason."""


class JobStopped(Exception):
    """A job that was stopped from outside."""


@dataclass(frozen=True)
class Context:
    """What a job needs to run: where it may write, and what starts its processes.

    `modules` tells which libraries a script (by its path) imports; `stopped` whether the execution is being stopped.
    """

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
    hosts = _hosts(int(cluster.get("InstanceCount", 1)), context.folder)
    application = request["AppSpecification"]
    inputs = request.get("ProcessingInputs") or []
    outputs = (request.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    for index, host in enumerate(hosts):
        for entry in inputs:
            s3 = entry["S3Input"]
            _fetch(entry["InputName"], s3, host.place(s3["LocalPath"]), index, len(hosts), context)
        for output in outputs:
            host.place(output["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
        config = host.opt_ml / "config"
        _write_resource_config(config, host, hosts, cluster.get("InstanceType", ""))
        write_json(config / "processingjobconfig.json", {"ProcessingJobName": name, **request})
    argv = [*(application.get("ContainerEntrypoint") or []), *(application.get("ContainerArguments") or [])]
    if not argv:
        raise JobFailed("AppSpecification has no ContainerEntrypoint: locally there is no image to take it from")
    limit = (request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    started = datetime.now(UTC)
    own = {"AWS_REGION": context.region, "PROCESSING_JOB_NAME": name}
    environment = own | (request.get("Environment") or {})
    _run(hosts, [str(part) for part in argv], lambda host: environment, context, limit, "message")
    for output in outputs:
        for host in hosts:
            context.store.take(host.place(output["S3Output"]["LocalPath"]), output["S3Output"]["S3Uri"])
    return _description("processing-job", "Processing", name, request, started, context)


def train(name: str, request: Json, context: Context) -> Json:
    """Run a training job in script mode; its description. Raises JobFailed or JobStopped."""
    resources = request["ResourceConfig"]
    hosts = _hosts(int(resources.get("InstanceCount", 1)), context.folder)
    hyperparameters = {k: _plain(v) for k, v in (request.get("HyperParameters") or {}).items()}
    channels = request.get("InputDataConfig") or []
    for index, host in enumerate(hosts):
        config = host.opt_ml / "input" / "config"
        for channel in channels:
            s3 = channel["DataSource"]["S3DataSource"]
            place = host.opt_ml / "input" / "data" / channel["ChannelName"]
            _fetch(channel["ChannelName"], s3, place, index, len(hosts), context)
        for folder in ("model", "output/data", "code"):
            (host.opt_ml / folder).mkdir(parents=True, exist_ok=True)
        _write_resource_config(config, host, hosts, resources.get("InstanceType", ""))
        write_json(config / "hyperparameters.json", hyperparameters)
        write_json(config / "inputdataconfig.json", {c["ChannelName"]: _channel_config(c) for c in channels})
        _unpack_code(hyperparameters, host.opt_ml / "code", context.store)
    argv = ["python3", "/opt/ml/code/" + hyperparameters.get("sagemaker_program", "train.py")]
    for key in sorted(k for k in hyperparameters if not k.startswith("sagemaker_")):
        argv += [f"--{key}", hyperparameters[key]]
    limit = (request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    started = datetime.now(UTC)
    names = [host.name for host in hosts]

    def environment(host: Host) -> dict[str, str]:
        return _script_mode(name, host, names, channels, hyperparameters, context) | (request.get("Environment") or {})

    _run(hosts, argv, environment, context, limit, "failure")
    prefix = f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output"
    model = {n: content for host in hosts for n, content in files_under(host.opt_ml / "model").items()}
    packed = context.folder / "packed"
    packed.mkdir()
    (packed / "model.tar.gz").write_bytes(archive(model))
    context.store.take(packed, prefix)
    description = _description("training-job", "Training", name, request, started, context)
    return description | {
        "ModelArtifacts": {"S3ModelArtifacts": f"{prefix}/model.tar.gz"},
        "SecondaryStatus": "Completed",
        "BillableTimeInSeconds": max(1, round((description["TrainingEndTime"] - started).total_seconds())),
    }


def _run(
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
    for host in hosts:
        local = [host.local(part) for part in argv]
        log = context.log if len(hosts) == 1 else context.log.with_suffix(f".{host.name}.log")
        own = {key: host.local(str(value)) for key, value in environment(host).items()}
        own["PYTHONUNBUFFERED"] = "1"
        own["SM_RESOURCE_CONFIG_FILE"] = str(next(host.opt_ml.rglob("resourceconfig.json")))
        (host.opt_ml / "output").mkdir(parents=True, exist_ok=True)
        modules = context.modules(Path(local[1])) if len(local) > 1 else ()
        processes.append(context.launcher.start(Command(local, inherited | own, host.opt_ml, log, modules)))
    deadline = time.monotonic() + limit if limit else None
    reason = None
    try:
        while reason is None and any(p.exit_code is None for p in processes):
            next(p for p in processes if p.exit_code is None).wait(0.05)
            if context.stopped():
                raise JobStopped("stopped by the user")
            if deadline and time.monotonic() > deadline:
                raise JobFailed(f"the job ran longer than its MaxRuntimeInSeconds ({limit} s)")
            reason = _first_failure(hosts, processes, context, message_file)
        reason = reason or _first_failure(hosts, processes, context, message_file)
    finally:
        for running in processes:
            running.kill()
    if reason:
        raise JobFailed(reason)


def _first_failure(hosts: list[Host], processes: list[Running], context: Context, message_file: str) -> str | None:
    for host, running in zip(hosts, processes, strict=True):
        if running.exit_code:
            where = f" on {host.name}" if len(hosts) > 1 else ""
            file = host.opt_ml / "output" / message_file
            said = file.read_text(errors="replace")[:1024].strip() if file.is_file() else ""
            if running.exit_code == -9 and not said:
                said = "killed by the operating system: most often it ran out of memory"
            return f"{said or _last_line(context.log) or 'no message'} (exit code {running.exit_code}{where})"
    return None


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    return lines[-1].strip()[:900] if lines else ""


def _hosts(count: int, folder: Path) -> list[Host]:
    shutil.rmtree(folder, ignore_errors=True)
    hosts = [Host(f"algo-{i + 1}", folder / f"algo-{i + 1}" / "opt" / "ml") for i in range(count)]
    for host in hosts:
        host.opt_ml.mkdir(parents=True)
    return hosts


def _fetch(name: str, s3: Json, place: Path, index: int, count: int, context: Context) -> None:
    """Copy an input's objects; with ShardedByS3Key every host gets each count-th object."""
    objects = context.store.objects(s3["S3Uri"])
    if not objects:
        raise JobFailed(f"input {name}: no object at {s3['S3Uri']}")
    if s3.get("S3DataDistributionType") == "ShardedByS3Key":
        objects = objects[index::count]
    place.mkdir(parents=True, exist_ok=True)
    context.store.download(objects, place)


def _write_resource_config(folder: Path, host: Host, hosts: list[Host], instance_type: str) -> None:
    names = [h.name for h in hosts]
    config = {"current_host": host.name, "hosts": names, "network_interface_name": "lo"}
    write_json(folder / "resourceconfig.json", config | {"current_instance_type": instance_type})


def _channel_config(channel: Json) -> Json:
    distribution = channel["DataSource"]["S3DataSource"].get("S3DataDistributionType", "FullyReplicated")
    return {"TrainingInputMode": "File", "S3DistributionType": distribution, "RecordWrapperType": "None"}


def _plain(value: Any) -> str:
    """A hyperparameter's text: SDK v2 wraps text values in JSON quotes."""
    text = str(value)
    return str(json.loads(text)) if len(text) > 1 and text[0] == text[-1] == '"' else text


def _unpack_code(hyperparameters: dict[str, str], folder: Path, store: Store) -> None:
    uri = hyperparameters.get("sagemaker_submit_directory", "")
    objects = store.objects(uri) if uri.startswith("s3://") else []
    if not objects:
        raise JobFailed(f"sagemaker_submit_directory: no code package at {uri or '(not given)'}")
    with tarfile.open(objects[0][1]) as tar:
        tar.extractall(folder, filter="data")


def _script_mode(
    name: str,
    host: Host,
    names: list[str],
    channels: list[Json],
    hyperparameters: dict[str, str],
    context: Context,
) -> dict[str, str]:
    """The SM_ variables that sagemaker-training sets for a script."""
    own = {k: v for k, v in hyperparameters.items() if not k.startswith("sagemaker_")}
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
        "SM_HPS": json.dumps(own, sort_keys=True),
        "SM_NETWORK_INTERFACE_NAME": "lo",
        "TRAINING_JOB_NAME": name,
        "AWS_REGION": context.region,
    }
    variables |= {f"SM_CHANNEL_{c['ChannelName'].upper()}": f"/opt/ml/input/data/{c['ChannelName']}" for c in channels}
    return variables | {f"SM_HP_{key.upper()}": value for key, value in own.items()}


def _description(resource: str, kind: str, name: str, request: Json, started: datetime, context: Context) -> Json:
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
