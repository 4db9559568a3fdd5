"""A training job in script mode on this machine: CreateTrainingJob's request in, DescribeTrainingJob's response out.

Sources: "How Amazon SageMaker Provides Training Information" in the SageMaker developer guide, and the environment
variables of the sagemaker-training toolkit.
"""

from __future__ import annotations

import json
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.files import archive, files_under, write_json
from mlops.local.jobs import (
    Context,
    Host,
    JobFailed,
    describe,
    fetch,
    make_hosts,
    run_hosts,
    write_resource_config,
)
from mlops.local.store import Store

Json = dict[str, Any]


def train(name: str, request: Json, context: Context) -> Json:
    """Run a training job in script mode; its description. Raises JobFailed or JobStopped."""
    resources = request["ResourceConfig"]
    hosts = make_hosts(int(resources.get("InstanceCount", 1)), context.folder)
    hyperparameters = {k: _plain(v) for k, v in (request.get("HyperParameters") or {}).items()}
    channels = request.get("InputDataConfig") or []
    for index, host in enumerate(hosts):
        config = host.opt_ml / "input" / "config"
        for channel in channels:
            s3 = channel["DataSource"]["S3DataSource"]
            place = host.opt_ml / "input" / "data" / channel["ChannelName"]
            fetch(channel["ChannelName"], s3, place, index, len(hosts), context)
        for folder in ("model", "output/data", "code"):
            (host.opt_ml / folder).mkdir(parents=True, exist_ok=True)
        write_resource_config(config, host, hosts, resources.get("InstanceType", ""))
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
