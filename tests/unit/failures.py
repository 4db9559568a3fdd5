"""The failures of failures.toml as cases for sagegate.explain.causes, and parts for more cases."""

import tomllib
from pathlib import Path
from typing import Any

from sagegate.config import Environment, convert
from sagegate.explain.causes import Case
from sagegate.files import Json
from sagegate.names import Names

ROLE = "arn:aws:sts::111122223333:assumed-role/churn-execution/SageMaker"
RESOURCES = {"instance_type": "ml.m5.xlarge", "instance_count": 1, "volume_size_in_gb": 30}
BODIES: dict[str, Json] = {
    "Train": {"Type": "Training", "Arguments": {"HyperParameters": {"sagemaker_program": "train.py"}}},
    "Evaluate": {
        "Type": "Processing",
        "Arguments": {"AppSpecification": {"ContainerEntrypoint": ["python3", "/opt/ml/x/evaluate.py"]}},
    },
}
# Lines that script mode adds to a training job's log and failure reason.
LAUNCHER = [
    "2026-11-20 10:00:00,123 sagemaker-training-toolkit ERROR    Reporting training FAILURE",
    "2026-11-20 10:00:00,124 sagemaker-training-toolkit ERROR    ExecuteUserScriptError:",
    "ExitCode 1",
    'ErrorMessage ""',
    'Command "/miniconda3/bin/python3 train.py --max_depth 4"',
]
SCRIPT_FAILED = 'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage ""\nCommand "python3 train.py"'
SEE_LOG = "AlgorithmError: See job logs for more information"


def traceback(exception: str, file: str = "/opt/ml/code/train.py", line: int = 42) -> list[str]:
    return [
        "[0] train-logloss=0.41 validation-logloss=0.44",
        "Traceback (most recent call last):",
        f'  File "{file}", line 150, in <module>',
        "    main()",
        f'  File "{file}", line {line}, in train',
        "    booster = fit(tables)",
        '  File "/miniconda3/lib/python3.12/site-packages/pandas/core/frame.py", line 4102, in __getitem__',
        "    indexer = self.columns.get_loc(key)",
        exception,
    ]


CONTAINER_TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "/miniconda3/lib/python3.12/site-packages/sagemaker_containers/_trainer.py", line 84, in train',
    "    entrypoint()",
    "sagemaker_containers._errors.ExecuteUserScriptError: ExecuteUserScriptError:",
]


def case(reason: str, log: list[str] | None = None, step: str = "Train", local: bool = False, **record: Any) -> Case:
    name = "local" if local else "dev"
    environment = convert(
        Environment,
        {
            "name": name,
            "account_id": "111122223333",
            "region": "eu-central-1",
            "processing": RESOURCES | {"instance_type": "ml.m5.large"},
            "training": RESOURCES,
            "endpoint": {"mode": "real-time", "instance_type": "ml.m5.large"},
            "limits": {"max_runtime_in_seconds": 3600},
        },
        "dev.toml",
    )
    names = Names("churn", name, "111122223333", "eu-central-1")
    entry = {"StepName": step, "StepStatus": "Failed", "FailureReason": reason, "Metadata": {}} | record
    return Case(entry, BODIES.get(step, {}), reason, log or [], environment, names, "abc123")


def known_failures() -> dict[str, tuple[str, Case, list[str]]]:
    """Return (kind, case, words that cause or fix must contain) by name."""
    table = tomllib.loads(Path(__file__).with_name("failures.toml").read_text(encoding="utf-8"))
    return {name: (entry["kind"], _case(entry), entry["words"]) for name, entry in table.items()}


def _case(entry: Json) -> Case:
    more: Json = {"Metadata": {"Fail": {"ErrorMessage": entry["fail"]}}} if "fail" in entry else {}
    status = entry.get("status", "Failed")
    log = entry.get("log", "").splitlines()
    return case(entry["reason"], log, entry["step"], entry.get("local", False), StepStatus=status, **more)
