"""Check the answers; change nothing. Each wrong answer gets one line, and any wrong answer stops the bake."""

import re
import sys
from collections.abc import Mapping

# The only place where answers enter this file: `pprint` makes a Python literal of whatever they contain.
ANSWERS = {{dict(cookiecutter) | pprint}}

# A project cannot have the name of one of its own dependencies (pyproject.toml): it would depend on itself.
DEPENDENCIES = frozenset(
    [
        "bc-detect-secrets",
        "boto3",
        "cfn-lint",
        "click",
        "jupyterlab",
        "msgspec",
        "mypy",
        "nbstripout",
        "numpy",
        "optuna",
        "pandas",
        "pandas-stubs",
        "pre-commit",
        "pyarrow",
        "pytest",
        "regex",
        "rich",
        "ruff",
        "sagegate",
        "sagemaker",
        "scikit-learn",
        "scipy",
        "xgboost",
        "xgboost-cpu",
        "zizmor",
    ]
)
ENVIRONMENTS = ("local", "dev", "staging", "prod")
# In parts, because this file is itself a template.
TEMPLATE_MARKS = ["{" + second for second in "%#{"]
SLUG = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
# https://docs.github.com/en/get-started/learning-about-github/types-of-github-accounts: 39 characters at most
REPOSITORY = r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}"


def wrong_name(value: str) -> str | None:
    """People's name of the project: shown in the README and in package metadata."""
    if not (value.isprintable() and len(value.strip()) >= 1 and len(value) <= 64):
        return "1 to 64 printable characters on one line, such as Tumour Classifier"
    if any(mark in value for mark in TEMPLATE_MARKS):
        return "text without template marks, which an update would render, such as Tumour Classifier"
    return None


def wrong_slug(value: str) -> str | None:
    """Part of the names of buckets, roles and endpoints (S3 allows 63 characters, IAM 64), and the folder."""
    if not re.fullmatch(SLUG, value) or len(value) > 32:
        return "at most 32 lower-case letters, digits, single hyphens, a letter first, such as tumour-classifier"
    if value.rpartition("-")[2] in ENVIRONMENTS and "-" in value:  # wine-prod's names would be those of wine in prod
        return "a name that does not end in an environment's (-dev, -staging, -prod), such as tumour-classifier"
    if value in DEPENDENCIES:
        return "a name that is not one of the project's own dependencies, such as tumour-classifier"
    return None


def wrong_repository(value: str) -> str | None:
    """The repository that the deployment roles trust."""
    owner = value.partition("/")[0]
    if not re.fullmatch(REPOSITORY, value) or len(owner) > 39 or value.endswith(".git"):
        return "owner/name as in the repository's address on GitHub, such as my-org/tumour-classifier"
    return None


def wrong_region(value: str) -> str | None:
    """Shape only: regions are added more often than templates are updated."""
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]", value):
        return "an AWS region's code, such as us-east-1"
    return None


def wrong_account(value: str) -> str | None:
    """Text, not a number: leading zeros stay."""
    if not re.fullmatch(r"[0-9]{12}", value):
        return "12 digits, such as 012345678901 (000000000000 while it is not known)"
    return None


CHECKS = {
    "project_name": wrong_name,
    "project_slug": wrong_slug,
    "github_repository": wrong_repository,
    "aws_region": wrong_region,
    "dev_account_id": wrong_account,
    "staging_account_id": wrong_account,
    "prod_account_id": wrong_account,
}


def shortened(value: str) -> str:
    """The answer as a quoted literal on one line, its middle left out when it is long."""
    return repr(value if len(value) <= 80 else f"{value[:60]}...{value[-10:]}")


def problems(answers: Mapping[str, object]) -> list[str]:
    """One line for each wrong answer: which, what was given, what a right one looks like."""
    lines = []
    for question, check in CHECKS.items():
        given = str(answers[question])
        if expected := check(given):
            lines.append(f"{question}: {shortened(given)} is not right; give {expected}.")
    return lines


if __name__ == "__main__":
    if lines := problems(ANSWERS):
        print(*lines, sep="\n", file=sys.stderr)
        sys.exit(1)
