"""Write docs/permissions.md from infra/platform.yaml: `python scripts/permissions.py`.

The page lists every role of an account with all environments, and each statement's actions, resources and conditions.
"""

from clean_copy import ROOT
from templates import REGION, Json, as_list, platform

PAGE = ROOT / "docs" / "permissions.md"
INTRODUCTION = """# Permissions

Generated from `infra/platform.yaml` by `python scripts/permissions.py`. The page shows project `tumour` in one account
with dev, staging and prod, where only these policies separate the environments. It has its own container image; without
`image_repository = true` in `dev.toml` there is no role `github-image`. With an account for each environment,
an account has only the roles of its own environments. A key adds `kms` statements, and a VPC adds `ec2` statements.
"""


def page() -> str:
    """Return the whole page."""
    stack = platform("dev staging prod", CreateImageRepository="true")
    roles = sorted(stack.of_type("AWS::IAM::Role").values(), key=lambda role: str(role["RoleName"]))
    return "\n".join([INTRODUCTION, *(section(role, stack.statements(role["RoleName"])) for role in roles)])


def section(role: Json, statements: list[Json]) -> str:
    """Return a role's section: who may assume it, and a table of its statements."""
    lines = [f"## `{role['RoleName']}`", "", f"{role['Description']}. Assumed by {trusted(role)}.", ""]
    lines += ["| Statement | Actions | Resources | Condition |", "|---|---|---|---|"]
    for statement in statements:
        cells = [
            f"{statement.get('Sid', '')}{' (deny)' if statement['Effect'] == 'Deny' else ''}",
            "<br>".join(f"`{action}`" for action in as_list(statement["Action"])),
            "<br>".join(f"`{short(resource)}`" for resource in as_list(statement["Resource"])),
            "<br>".join(conditions(statement.get("Condition", {}))),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def trusted(role: Json) -> str:
    """Describe who may assume a role."""
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    if "Service" in statement["Principal"]:
        return " or ".join(f"`{service}`" for service in as_list(statement["Principal"]["Service"]))
    claims = {key.rpartition(":")[2]: as_list(value) for key, value in statement["Condition"]["StringEquals"].items()}
    files = " or ".join(f"`{ref}`" for ref in claims["job_workflow_ref"])
    return f"jobs of {files} with the subject " + " or ".join(f"`{subject}`" for subject in claims["sub"])


def conditions(condition: Json) -> list[str]:
    """Return a condition as text, one line for each key."""
    keys = [(key, values) for entries in condition.values() for key, values in entries.items()]
    return [f"`{key}` is " + " or ".join(f"`{short(value)}`" for value in as_list(values)) for key, values in keys]


def short(resource: str) -> str:
    """Shorten an ARN: drop partition, region and the example account."""
    parts = str(resource).split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return str(resource)
    account = "" if parts[4] in ("", "111111111111") else f"{parts[4]}:"
    return f"{parts[2]}:{account}{parts[5]}".replace(f"-111111111111-{REGION}", "-ACCOUNT-REGION")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
