"""Run a training job locally: CreateTrainingJob's request in, DescribeTrainingJob's response out.

The job runs the request's ContainerEntrypoint and ContainerArguments, such as the driver that SDK v3 makes of
`SourceCode`. Without them it runs in script mode, like the framework images. Sources: "How Amazon SageMaker Provides
Training Information" in the SageMaker developer guide; `mapping.py` and `environment.py` of the sagemaker-training
toolkit.
"""

from __future__ import annotations

import json
import math
import os
import re
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from sagegate.config import KEPT_BY_CONTAINER
from sagegate.files import Json, archive, files_under, split_uri
from sagegate.local.jobs import (
    Context,
    Host,
    JobFailed,
    container_command,
    copy_inputs,
    host_logs,
    job_fields,
    make_hosts,
    no_image,
    run_hosts,
    write_config,
)
from sagegate.local.state import now
from sagegate.local.storage import Store


def run_training_job(name: str, request: Json, context: Context) -> Json:
    """Run a training job and return its description. Raises JobFailed or JobStopped."""
    resources = resource_config(request)
    hosts = make_hosts(int(resources.get("InstanceCount", 1)), context)
    given = {key: str(value) for key, value in (request.get("HyperParameters") or {}).items()}
    channels = {channel["ChannelName"]: channel for channel in request.get("InputDataConfig") or []}
    command = container_command(request["AlgorithmSpecification"])
    is_script_mode = not command
    decoded = {key: _decode(value) for key, value in given.items()}
    hyperparameters = {
        k: v for k, v in decoded.items() if not k.startswith("sagemaker_") and k not in KEPT_BY_CONTAINER
    }
    if is_script_mode:
        if not decoded.get("sagemaker_submit_directory"):
            raise JobFailed(f"sagemaker_submit_directory is missing: {no_image(request['AlgorithmSpecification'])}")
        program = decoded.get("sagemaker_program", "train.py")
        command = ["python3", f"/opt/ml/code/{program}", *_command_line(hyperparameters)]
    config: dict[str, Json] = {
        "hyperparameters.json": given,
        "inputdataconfig.json": {key: _channel_config(channel) for key, channel in channels.items()},
    }
    for host in hosts:
        for channel_name, channel in channels.items():
            folder = host.path(f"/opt/ml/input/data/{channel_name}")
            copy_inputs(channel_name, channel["DataSource"]["S3DataSource"], folder, host, hosts, context)
        for part in ("model", "output/data", "code"):
            (host.opt_ml / part).mkdir(parents=True, exist_ok=True)
        write_config(host.opt_ml / "input" / "config", host, hosts, resources.get("InstanceType", ""), config)
        if is_script_mode:
            _unpack_code(str(decoded.get("sagemaker_submit_directory", "")), host.opt_ml / "code", context.store)

    def environment(host: Host) -> dict[str, str]:
        variables = {"TRAINING_JOB_NAME": name, "AWS_REGION": context.region}
        # The toolkit in the image sets the SM_ variables, and a job with its own entrypoint does not start the toolkit.
        if is_script_mode:
            variables |= _toolkit_variables(host, hosts, list(channels), hyperparameters)
        return variables | (request.get("Environment") or {})

    started = now()
    limit = (request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    run_hosts(hosts, command, environment, context, limit, "failure")
    metrics = final_metrics(request["AlgorithmSpecification"].get("MetricDefinitions") or [], host_logs(context.log))
    uri = f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output/model.tar.gz"
    bucket, key = split_uri(uri)
    files = {name: content for host in hosts for name, content in files_under(host.opt_ml / "model").items()}
    context.store.put_object(Bucket=bucket, Key=key, Body=archive(files))
    return request | {
        **job_fields("training-job", "Training", name, started, context),
        "ModelArtifacts": {"S3ModelArtifacts": uri},
        "FinalMetricDataList": metrics,
        "SecondaryStatus": "Completed",
        "BillableTimeInSeconds": max(1, round((now() - started).total_seconds())),
    }


def resource_config(request: Json) -> Json:
    """Return the instances of a training job; those of a tuning job are in either of two keys (SDK v2 uses the second).

    Of several InstanceConfigs, the first is the most preferred one. Raises JobFailed if there is none.
    """
    tuned = request.get("HyperParameterTuningResourceConfig") or {}
    choices = tuned.get("InstanceConfigs") or ([tuned] if tuned else [])
    found: Json | None = request.get("ResourceConfig") or (choices[0] if choices else None)
    if not found:
        raise JobFailed("the request has no ResourceConfig: it must say how many instances the job gets")
    return found


def final_metrics(definitions: list[Json], logs: list[Path]) -> list[Json]:
    """Return FinalMetricDataList: the last value of each metric, read from the logs by its Regex.

    Of several hosts, the first whose last value is a finite number counts.
    """
    found = []
    for definition in definitions:
        pattern = re.compile(definition["Regex"])
        for log in logs:
            matches = list(pattern.finditer(log.read_text(encoding="utf-8", errors="replace")))
            with suppress(ValueError, IndexError):
                value = float(matches[-1][1])
                if math.isfinite(value):
                    found.append({"MetricName": definition["Name"], "Value": value, "Timestamp": now()})
                    break
    return found


def _channel_config(channel: Json) -> Json:
    distribution = channel["DataSource"]["S3DataSource"].get("S3DataDistributionType", "FullyReplicated")
    return {"TrainingInputMode": "File", "S3DistributionType": distribution, "RecordWrapperType": "None"}


def _decode(text: str) -> Any:
    """Decode a hyperparameter as the toolkit does: as JSON (SDK v2 quotes text), else as the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _command_line(hyperparameters: Json) -> list[str]:
    """Return the script's arguments as the toolkit writes them: `-x` for a name of one letter, `True` for true."""
    arguments = []
    for key, value in sorted(hyperparameters.items()):
        text = ",".join(f"{k}={v}" for k, v in sorted(value.items())) if isinstance(value, dict) else value
        arguments += [f"--{key}" if len(key) > 1 else f"-{key}", "" if text is None else str(text)]
    return arguments


def _unpack_code(uri: str, folder: Path, store: Store) -> None:
    objects = store.objects(uri) if uri.startswith("s3://") else []
    if not objects:
        raise JobFailed(f"sagemaker_submit_directory: no code package at {uri}")
    with tarfile.open(objects[0][1]) as tar:
        tar.extractall(folder, filter="data")


def _toolkit_variables(host: Host, hosts: list[Host], channels: list[str], hyperparameters: Json) -> dict[str, str]:
    """Return the SM_ variables that the sagemaker-training toolkit sets for a script."""
    variables = {
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_INPUT_DIR": "/opt/ml/input",
        "SM_INPUT_CONFIG_DIR": "/opt/ml/input/config",
        "SM_OUTPUT_DIR": "/opt/ml/output",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
        "SM_CHANNELS": json.dumps(sorted(channels)),
        "SM_HOSTS": json.dumps([h.name for h in hosts]),
        "SM_CURRENT_HOST": host.name,
        "SM_NUM_GPUS": "0",
        "SM_NUM_CPUS": str(os.cpu_count() or 1),
        "SM_HPS": _variable(hyperparameters),
        "SM_NETWORK_INTERFACE_NAME": "lo",
    }
    variables |= {f"SM_CHANNEL_{channel.upper()}": f"/opt/ml/input/data/{channel}" for channel in channels}
    return variables | {f"SM_HP_{key.upper()}": _variable(value) for key, value in hyperparameters.items()}


def _variable(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
