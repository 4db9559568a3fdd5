"""A job's output in moto's CloudWatch Logs, where SageMaker puts it.

Group `/aws/sagemaker/ProcessingJobs` (TrainingJobs, TransformJobs), stream `JOB/algo-N-SECONDS`, one per host.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from moto.logs.models import logs_backends

LONGEST = 256 * 1024  # characters of one event; CloudWatch's limit is 256 KiB


def host_files(log: Path) -> list[tuple[str, Path]]:
    """The files in which the engine leaves a step's output: (host, file). A single host writes to `log` itself."""
    hosts = sorted(log.parent.glob(f"{log.stem}.algo-*.log"))
    return [(file.name.split(".")[-2], file) for file in hosts] or ([("algo-1", log)] if log.is_file() else [])


def publish(account_id: str, region: str, kind: str, job: str, started: datetime, host: str, lines: list[str]) -> None:
    """Put one host's lines into its stream; nothing where there are none."""
    if not lines:
        return
    backend = logs_backends[account_id][region]
    group = f"/aws/sagemaker/{kind}Jobs"
    if group not in backend.groups:
        backend.create_log_group(group, {})
    stream = f"{job}/{host}-{int(started.timestamp())}"
    backend.ensure_log_stream(group, stream)
    # One millisecond apart, and none in the future: CloudWatch orders events by their time.
    first = int(datetime.now(UTC).timestamp() * 1000) - len(lines)
    events = [{"timestamp": first + i, "message": line[:LONGEST] or " "} for i, line in enumerate(lines)]
    backend.put_log_events(group, stream, events)
