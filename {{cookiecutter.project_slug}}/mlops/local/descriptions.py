"""Jobs that have completed, in the shapes of boto3's Describe* calls: `.mlops/descriptions/NAME.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlops.local.records import ResourceNotFound, read_json

Json = dict[str, Any]


class JobCalls:
    """The calls of boto3's SageMaker client about jobs."""

    state: Path

    def describe_processing_job(self, *, ProcessingJobName: str) -> Json:
        """A processing job that has completed."""
        return self._job("processing-job", ProcessingJobName)

    def describe_training_job(self, *, TrainingJobName: str) -> Json:
        """A training job that has completed."""
        return self._job("training-job", TrainingJobName)

    def describe_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str) -> Json:
        """A tuning job that has completed."""
        found = self._job("hyper-parameter-tuning-job", HyperParameterTuningJobName)
        return {key: value for key, value in found.items() if key != "TrainingJobSummaries"}

    def list_training_jobs_for_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str, **_: Any) -> Json:
        """The training jobs of a tuning job that succeeded, the best first."""
        found = self._job("hyper-parameter-tuning-job", HyperParameterTuningJobName)
        return {"TrainingJobSummaries": found["TrainingJobSummaries"]}

    def _job(self, resource: str, name: str) -> Json:
        file = self.state / "descriptions" / f"{name}.json"
        if not file.is_file():
            raise ResourceNotFound(f"{resource} {name} does not exist")
        return read_json(file)
