"""Where a model is: pinned in deployments/ENV.json, and what became of its deployments, as far as they can be seen."""

from __future__ import annotations

from pathlib import Path

from mlops.aws import Door
from mlops.errors import MlopsError
from mlops.names import Names
from mlops.registry import deployment_records, deployments
from mlops.settings import load_environment


def pinned(root: Path, door: Door) -> dict[str, str]:
    """The environments that pin a model of the door's registry, by that model's ARN: `staging`, `staging, prod`.

    A file that cannot be read pins nothing here: `mlops check` says what is wrong with it.
    """
    found: dict[str, str] = {}
    for environment in deployments.DEPLOYED:
        try:
            pin = deployments.load(root, environment)
        except MlopsError:
            continue
        if pin is not None:
            arn = pin.model.arn
            found[arn] = ", ".join(filter(None, [found.get(arn), environment]))
    return found


def deployed(root: Path, door: Door) -> dict[str, str]:
    """Where the door's models are, by ARN: `staging, prod (pinned)`. Pinned only means that it is not live there.

    What was live last in health is live: a failed deployment puts it back. Dev's bucket has the records of all.
    """
    found: dict[str, list[str]] = {}
    pins = pinned(root, door)
    for environment in deployments.DEPLOYED:
        record = None if door.environment.is_local else deployment_records.last_healthy(door, environment=environment)
        live = record.model_package_arn if record else ""
        if live:
            found.setdefault(live, []).append(environment)
        for arn, where in pins.items():
            if environment in where.split(", ") and arn != live:
                found.setdefault(arn, []).append(f"{environment} (pinned)")
    return {arn: ", ".join(where) for arn, where in found.items()}


def journey(root: Path, door: Door, arn: str, digest: str | None) -> list[tuple[str, str]]:
    """One line for each environment that has had a model: endpoint, result, who, which pull request or commit.

    Records are in the account that was deployed to; of an account other than the door's only the pin is known.
    """
    lines = []
    for environment in deployments.DEPLOYED:
        there = load_environment(root, environment)
        here = (door.names.account_id, door.names.region)
        names = Names(door.names.project, environment, there.account_id, there.region)
        is_pinned = environment in pinned(root, door).get(arn, "").split(", ")
        said = f"pinned for endpoint {names.endpoint}" if is_pinned else ""
        if digest and not door.environment.is_local and (there.account_id, there.region) == here:
            record = deployment_records.last_of(door, arn, digest, environment)
            if record:
                by = f"{record.at[:16]} UTC by {record.deployed_by}"
                source = record.pull_request or f"commit {record.commit[:12]}"
                said = f"{record.result} on endpoint {names.endpoint}, {by}, {source}"
        if said:
            lines.append((environment, said))
    return lines
