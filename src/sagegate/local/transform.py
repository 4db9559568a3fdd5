"""Run a batch transform job locally: every input object goes through the model's inference code.

With `SplitType: Line` a file's lines go in parts of at most MaxPayloadInMB; otherwise a file is one request. Each
object's answers become one `.out` object. The model runs in a process of its own (transform_process.py). Source: "Use
Batch Transform" in the SageMaker developer guide.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from sagegate.files import Json
from sagegate.local.jobs import Context, JobFailed, copy_inputs, job_fields, make_hosts, run_hosts
from sagegate.local.state import now

PROCESS = Path(__file__).with_name("transform_process.py")


def run_transform_job(name: str, request: Json, model: Json, context: Context) -> Json:
    """Run a transform job and return its description; `model` is CreateModel's request.

    Raises JobFailed or JobStopped.
    """
    host = make_hosts(1, context.folder)[0]
    for folder in ("model", "output"):
        (host.opt_ml / folder).mkdir()
    artifact_uri = (model.get("PrimaryContainer") or model["Containers"][0])["ModelDataUrl"]
    artifact = context.store.objects(artifact_uri)
    if not artifact:
        raise JobFailed(f"the model's artifact does not exist: {artifact_uri}")
    with tarfile.open(artifact[0][1]) as tar:
        tar.extractall(host.opt_ml / "model", filter="data")
    source, output = request["TransformInput"], request["TransformOutput"]
    copy_inputs("TransformInput", source["DataSource"]["S3DataSource"], host.opt_ml / "input", 0, 1, context)
    settings = {
        "content_type": source.get("ContentType", "text/csv"),
        "accept": output.get("Accept", "application/json"),
        "split": source.get("SplitType", "None"),
        "assemble": output.get("AssembleWith", "None"),
        "limit": int(request.get("MaxPayloadInMB", 6)) * 1024 * 1024,
    }
    (host.opt_ml / "transform.json").write_text(json.dumps(settings))
    started = now()
    environment = {"SM_MODEL_DIR": "/opt/ml/model", "AWS_REGION": context.region} | (request.get("Environment") or {})
    limit = (request.get("ModelClientConfig") or {}).get("InvocationsTimeoutInSeconds")
    run_hosts([host], ["python3", str(PROCESS), "/opt/ml"], lambda _: environment, context, limit, "failure")
    context.store.upload_folder(host.opt_ml / "output", output["S3OutputPath"])
    return request | job_fields("transform-job", "Transform", name, started, context)
