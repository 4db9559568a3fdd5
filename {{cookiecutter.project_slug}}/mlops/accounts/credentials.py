"""`mlops credentials ENV`: which role a workflow takes, in lines for $GITHUB_OUTPUT. All follows from the settings."""

from __future__ import annotations

from pathlib import Path

from mlops.accounts import platform
from mlops.errors import USAGE, MlopsError
from mlops.names import Names
from mlops.settings import PLACEHOLDER_ACCOUNT, load_environment, load_settings

PURPOSES = ("train", "approve", "deploy")


def credentials(root: Path, name: str, purpose: str | None) -> dict[str, str]:
    """The verb: `role-arn`, `region` and `profile`. Reads the settings and asks nobody.

    `purpose` is train in dev and deploy in staging and prod unless given; `approve` is dev's role whichever environment
    asks, for the models are there.
    """
    purpose = purpose or ("train" if name == "dev" else "deploy")
    if purpose == "train" and name != "dev":
        raise MlopsError(f"--purpose train: pipelines run in dev, not in {name}", USAGE)
    if purpose == "deploy" and name == "dev":
        raise MlopsError("--purpose deploy: models are deployed to staging and prod, not to dev", USAGE)
    environment = load_environment(root, "dev" if purpose == "approve" else name)
    if environment.is_local:
        raise MlopsError(f"local is this machine, which needs no role: choose {', '.join(platform.HOSTED)}", USAGE)
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        raise MlopsError(platform.placeholder(environment.name))
    project = load_settings(root).project.name
    names = Names(project, environment.name, environment.account_id, environment.region)
    role = f"github-deploy-{name}" if purpose == "deploy" else f"github-{purpose}"
    return {
        "role-arn": names.iam_role(role),
        "region": environment.region,
        "profile": f"{project}-{environment.name}",
    }
