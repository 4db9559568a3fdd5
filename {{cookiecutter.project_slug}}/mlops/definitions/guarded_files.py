"""What the files of infra/ and .github/ must not say, whoever edits them: known bugs of public templates.

Read as text, line by line, so that a finding has its line and nothing has to be installed. `mlops check` reports
breaches as it does those of mlops/definitions/guards.py, and `[waivers]` in mlops.toml covers both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mlops.definitions.guards import Breach

Found = Iterator[tuple[int, str]]  # the line's number, and what is wrong with it
INFRA = ("infra/*.yaml", "infra/*.yml")
WORKFLOWS = (".github/**/*.yaml", ".github/**/*.yml")
TOKEN = r"token\.actions\.githubusercontent\.com"
ADMINISTRATORS = re.compile(r"\b(AdministratorAccess|PowerUserAccess|IAMFullAccess|AmazonSageMakerFullAccess)\b")
EVERYTHING = re.compile(r"""(?:^|[\s{,-])["']?Action["']?:\s*\[?\s*["']?(?:\*|iam:\*|sts:\*)["']?\s*(?:[\],}]|$)""")
STORED = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
KEYS = re.compile(rf"{STORED.pattern}|(?i:aws[_-](?:access[_-]key[_-]id|secret[_-]access[_-]key))")
SHA = re.compile(r"@[0-9a-f]{40}$|@sha256:[0-9a-f]{64}$")
IGNORED = re.compile(r"\|\|\s*(?:true\b|:(?=\s|$)|exit 0\b|echo\b)|;\s*true\s*$|continue-on-error:\s*[\"']?true")


def administrator(lines: list[str]) -> Found:
    """Roles have the permissions that their job needs, and no policy that allows everything."""
    for number, line in enumerate(lines, 1):
        named = ADMINISTRATORS.search(line)
        if named:
            yield number, f"{named[1]} is far more than a role needs: name the actions and resources it uses"
        is_list = number < len(lines) and re.match(r"\s*Action:\s*$", line)
        everything = re.match(r"\s*-\s*[\"']?\*[\"']?\s*$", lines[number]) if is_list else EVERYTHING.search(line)
        if everything:
            yield number, "a statement for every action: name the actions that the role uses"


def static_keys(lines: list[str]) -> Found:
    """Nothing stores AWS credentials: workflows get them through OIDC, people by logging in."""
    for number, line in enumerate(lines, 1):
        if KEYS.search(line):
            yield number, "a stored AWS key: workflows assume a role through OIDC (role-to-assume), so remove it"


def trust(lines: list[str]) -> Found:
    """GitHub's tokens are trusted for one repository and environment, word for word."""
    for start, block in _blocks(lines):
        if not any("AssumeRoleWithWebIdentity" in line for line in block):
            continue
        for claim in ("aud", "sub"):
            if not any(re.search(rf"{TOKEN}:{claim}", line) for line in block):
                yield start, f"trusts GitHub's tokens whatever their `{claim}`: require it"
        for offset, line in enumerate(block):
            found = re.match(rf"(\s*)[\"']?{TOKEN}:sub[\"']?:\s*(.*)$", line)
            if not found:
                continue
            for index, value in _values(found[2], block, offset):
                if not re.search(r"repo:[^*?]+:environment:[^*?]+$", value.strip("\"' ")):
                    yield (
                        start + index,
                        f"trusts more than one environment of one repository ({value}): "
                        f"let it be repo:ORG/REPO:environment:ENV",
                    )


def _values(first: str, block: list[str], offset: int) -> Iterator[tuple[int, str]]:
    """The value after a key, or those of the list below it, with the offsets of their lines."""
    if first:
        yield from ((offset, value) for value in first.strip("[]").split(","))
        return
    for index in range(offset + 1, len(block)):
        item = re.match(r"\s*-\s+(.+)$", block[index])
        if not item:
            return
        yield index, item[1]


def status_filter(lines: list[str]) -> Found:
    """A rule about model packages says which decision it waits for: registering one is an event, too."""
    for start, block in _blocks(lines):
        is_rule = any("AWS::Events::Rule" in line for line in block)
        is_about_models = is_rule and any("SageMaker Model Package State Change" in line for line in block)
        if is_about_models and not any(re.match(r"\s*[\"']?ModelApprovalStatus[\"']?:\s*\S", line) for line in block):
            yield start, "reacts to every model package, rejected ones too: filter by detail.ModelApprovalStatus"


def exact_model(lines: list[str]) -> Found:
    """What is deployed is the model package that deployments/ENV.json pins."""
    for number, line in enumerate(lines, 1):
        found = re.search(r"ModelPackageName[\"']?:\s*([^}\]]+)", line)
        if found and found[1].strip() != "!Ref ModelPackageArn":
            yield number, "deploys another model than the one that is pinned: let it be !Ref ModelPackageArn"


def pinned_actions(lines: list[str]) -> Found:
    """A tag can be moved to other code; a commit's SHA cannot."""
    for number, line in enumerate(lines, 1):
        found = re.match(r"\s*(?:-\s+)?[\"']?uses[\"']?:\s*[\"']?([^\s\"']+)", line)
        if found and not found[1].startswith("./") and not SHA.search(found[1]):
            yield number, f"{found[1]} can become other code: pin the commit's full SHA, the version in a comment"


def exit_code(lines: list[str]) -> Found:
    """A rejected model or a failed deployment fails its job."""
    for number, line in enumerate(lines, 1):
        if IGNORED.search(line):
            yield number, "the job stays green when this fails: let the exit code through"


RULES: dict[str, tuple[tuple[str, ...], Callable[[list[str]], Found]]] = {
    "administrator": (INFRA + WORKFLOWS, administrator),
    "static-keys": ((*INFRA, *WORKFLOWS, "environments/*.toml", "mlops.toml"), static_keys),
    "trust": (INFRA, trust),
    "status-filter": (INFRA, status_filter),
    "exact-model": (INFRA, exact_model),
    "pinned-actions": (WORKFLOWS, pinned_actions),
    "exit-code": (WORKFLOWS, exit_code),
}


def in_files(root: Path) -> Iterator[Breach]:
    """The breaches in the files of the project in `root`."""
    for name, (patterns, rule) in RULES.items():
        for file in sorted({file for pattern in patterns for file in root.glob(pattern)}):
            lines = [_without_comment(line) for line in file.read_text(encoding="utf-8").splitlines()]
            for number, said in rule(lines):
                yield Breach(name, f"{file.relative_to(root).as_posix()}, line {number}: {said}")


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The resources of a CloudFormation template: the number of the first line, and the lines."""
    starts = [index for index, line in enumerate(lines) if re.match(r"  [A-Za-z0-9]+:\s*$", line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield start + 1, lines[start:end]


def _without_comment(line: str) -> str:
    """The line without its comment, unless that gives a key away."""
    if STORED.search(line):
        return line
    return "" if line.lstrip().startswith("#") else re.sub(r"\s#.*$", "", line)
