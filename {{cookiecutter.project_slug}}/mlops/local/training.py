"""A training job on this machine: CreateTrainingJob's request in, DescribeTrainingJob's response out.

It runs the request's ContainerEntrypoint and ContainerArguments, such as the driver that SDK v3 makes of `SourceCode`;
without them what the framework images run, script mode. Sources: "How Amazon SageMaker Provides Training Information"
in the SageMaker developer guide; `mapping.py` and `environment.py` of the sagemaker-training toolkit.
"""

from __future__ import annotations

import json
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.files import archive, files_under
from mlops.local.jobs import (
    Context,
    Host,
    JobFailed,
    describe,
    fetch,
    make_hosts,
    run_hosts,
    write_config,
)
from mlops.local.store import Store

Json = dict[str, Any]


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
    context.store.take(packed, prefix)
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
