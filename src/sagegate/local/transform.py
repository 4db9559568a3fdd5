"""A batch transform job: every input object through the model's inference code, one `.out` object each.

Source: "Use Batch Transform" in the SageMaker developer guide. `SplitType: Line` sends a file's lines in parts of at
most MaxPayloadInMB; without it a file is one request. The model answers in a process of its own (transform_process.py).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sagegate.local import jobs
from sagegate.local.jobs import Context, Host, JobFailed
from sagegate.local.state import now

Json = dict[str, Any]
BATCH = Path(__file__).with_name("transform_process.py")


def run_transform_job(name: str, request: Json, context: Context, read_model: Callable[[str], Json]) -> Json:
    """Run a transform job; its description. Raises JobFailed or JobStopped."""
    model = read_model(request["ModelName"])
    container = model.get("PrimaryContainer") or model["Containers"][0]
    host = Host("algo-1", context.folder / "opt" / "ml")
    for folder in ("model", "input", "output"):
        (host.opt_ml / folder).mkdir(parents=True)
    artifact = context.store.objects(container["ModelDataUrl"])
    if not artifact:
        raise JobFailed(f"the model's artifact does not exist: {container['ModelDataUrl']}")
    with tarfile.open(artifact[0][1]) as tar:
        tar.extractall(host.opt_ml / "model", filter="data")
    source = request["TransformInput"]
    uri = source["DataSource"]["S3DataSource"]["S3Uri"]
    objects = context.store.objects(uri)
    if not objects:
        raise JobFailed(f"TransformInput: no object at {uri}")
    context.store.download(objects, host.opt_ml / "input")
    output = request["TransformOutput"]
    order = {
        "content_type": source.get("ContentType", "text/csv"),
        "accept": output.get("Accept", "application/json"),
        "split": source.get("SplitType", "None"),
        "assemble": output.get("AssembleWith", "None"),
        "limit": int(request.get("MaxPayloadInMB", 6)) * 1024 * 1024,
    }
    (host.opt_ml / "batch.json").write_text(json.dumps(order))
    started = now()
    environment = {"SM_MODEL_DIR": "/opt/ml/model", "AWS_REGION": context.region} | (request.get("Environment") or {})
    limit = (request.get("ModelClientConfig") or {}).get("InvocationsTimeoutInSeconds")
    jobs.run_hosts([host], ["python3", str(BATCH), "/opt/ml"], lambda _: environment, context, limit, "failure")
    context.store.upload_folder(host.opt_ml / "output", output["S3OutputPath"])
    arn = f"arn:aws:sagemaker:{context.region}:{context.account_id}:transform-job/{name}"
    named = {"TransformJobName": name, "TransformJobArn": arn, "TransformJobStatus": "Completed"}
    return request | named | {"CreationTime": started, "TransformStartTime": started, "TransformEndTime": now()}
