"""This repository's own rules: workflows are audited, and no file names a machine or a package registry."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from clean_copy import ROOT, tracked_files
from conftest import Bake

SCRIPTS = Path(sysconfig.get_path("scripts"))
# Written in parts, so that this file does not name what it looks for.
FORBIDDEN = {
    "a package registry's host": re.compile(
        r"(pypi|pythonhosted|npmjs|conda|crates)\." r"(org|com|io)\b|registry\.(npmjs|yarnpkg)|deb\.debian",
        re.IGNORECASE,
    ),
    "a path of one machine": re.compile(r"(?<![\w.$}])/" r"(work|root|Users|home)/\w"),
    "an address of a private network": re.compile(r"\b(10|192\.168|172\.1[6-9])(\.\d{1,3}){2,3}\b(?!/\d)"),
}


def workflows(folder: Path) -> list[str]:
    return [str(path) for path in sorted((folder / ".github" / "workflows").glob("*.yml"))]


def tool(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    """One of the development environment's commands."""
    return subprocess.run([str(SCRIPTS / name), *args], capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("place", ["template", "project"])
@pytest.mark.parametrize(
    "command",
    [
        ["actionlint", "-shellcheck=", "-pyflakes="],
        ["zizmor", "--offline", "--persona", "pedantic", "--no-progress"],
    ],
    ids=["actionlint", "zizmor"],
)
def test_workflows_pass_their_audit(baked: Bake, place: str, command: list[str]) -> None:
    files = workflows(ROOT if place == "template" else baked())
    if not files:
        pytest.skip("no workflows here yet")
    done = tool(*command, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_audit_can_fail(tmp_path: Path) -> None:
    workflow = tmp_path / "bad.yml"
    workflow.write_text(
        "on: push\njobs:\n  job:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v7\n",
        encoding="utf-8",
    )
    assert tool("zizmor", "--offline", "--persona", "pedantic", str(workflow)).returncode != 0


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    found = []
    for name in tracked_files(ROOT):
        if name.suffix in (".csv", ".png"):
            continue
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1):
            if FORBIDDEN[what].search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert found == []


def test_every_action_is_pinned_to_a_commit() -> None:
    for name in tracked_files(ROOT):
        if "workflows" not in name.parts:
            continue
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if "uses:" in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line), f"{name}: {line}"


def test_the_locks_with_download_addresses_are_not_committed() -> None:
    assert [str(name) for name in tracked_files(ROOT) if name.name == "uv.lock"] == []
