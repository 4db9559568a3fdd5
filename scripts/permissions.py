"""The table of permissions in docs/permissions.md, from the platform's template: `python scripts/permissions.py`.

Every role of an account that hosts everything, with each statement: what it may do, on what, and under which condition.
"""

from clean_copy import ROOT
from templates import REGION, Json, as_list, platform

PAGE = ROOT / "docs" / "permissions.md"
INTRODUCTION = """# Permissions

Made from `infra/platform.yaml` by `python scripts/permissions.py`; a test fails when it is stale. It shows project
`tumour` in one account that hosts dev, staging and prod, where nothing but these policies keeps them apart. With
accounts of their own they are apart in any case, and each account has only the roles of what it hosts. `kms` statements
are added where there is a key, `ec2` statements where jobs and endpoints run in a VPC.
"""


def page() -> str:
    """The whole page."""
    stack = platform("dev staging prod")
    roles = sorted(stack.of_type("AWS::IAM::Role").values(), key=lambda role: str(role["RoleName"]))
    return "\n".join([INTRODUCTION, *(section(role, stack.statements(role["RoleName"])) for role in roles)])


def section(role: Json, statements: list[Json]) -> str:
    """One role: who may assume it, and its statements as a table."""
    lines = [f"## `{role['RoleName']}`", "", f"{role['Description']}. Assumed by {trusted(role)}.", ""]
    lines += ["| | may | on | if |", "|---|---|---|---|"]
    for statement in statements:
        cells = [
            f"{statement.get('Sid', '')}{' (never)' if statement['Effect'] == 'Deny' else ''}",
            "<br>".join(f"`{action}`" for action in as_list(statement["Action"])),
            "<br>".join(f"`{short(resource)}`" for resource in as_list(statement["Resource"])),
            "<br>".join(conditions(statement.get("Condition", {}))),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def trusted(role: Json) -> str:
    """Who may assume a role, in words."""
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    if "Service" in statement["Principal"]:
        return f"`{statement['Principal']['Service']}`"
    subjects = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
    return "workflows with the subject " + " or ".join(f"`{subject}`" for subject in as_list(subjects))


def conditions(condition: Json) -> list[str]:
    """A condition, one line for each key."""
    keys = [(key, values) for entries in condition.values() for key, values in entries.items()]
    return [f"`{key}` is " + " or ".join(f"`{short(value)}`" for value in as_list(values)) for key, values in keys]


def short(resource: str) -> str:
    """An ARN without what all have in common: partition, region and account."""
    parts = str(resource).split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return str(resource)
    account = "" if parts[4] in ("", "111111111111") else f"{parts[4]}:"
    return f"{parts[2]}:{account}{parts[5]}".replace(f"-111111111111-{REGION}", "-ACCOUNT-REGION")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
