"""Rules of this repository: audited workflows, pinned actions, and no file that names a machine or a registry."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from clean_copy import ROOT, tracked_files

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


def tool(folder: Path, name: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the development environment in a folder."""
    return subprocess.run([str(SCRIPTS / name), *args], cwd=folder, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("place", ["template", "project"])
@pytest.mark.parametrize(
    "command",
    [
        ["actionlint", "-shellcheck", str(SCRIPTS / "shellcheck"), "-pyflakes="],
        ["zizmor", "--offline", "--persona", "pedantic", "--no-progress", ".github"],
    ],
    ids=["actionlint", "zizmor"],
)
def test_workflows_and_actions_pass_their_audit(own_project: Path, place: str, command: list[str]) -> None:
    # actionlint checks the inputs of a local action only in a git repository.
    subprocess.run(["git", "init", "-q"], cwd=own_project, check=True)
    done = tool(ROOT if place == "template" else own_project, *command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_audit_can_fail(own_project: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=own_project, check=True)
    file = own_project / ".github" / "workflows" / "train.yml"
    text = file.read_text(encoding="utf-8")
    shellcheck = ["actionlint", "-shellcheck", str(SCRIPTS / "shellcheck")]
    for command, old, new in (
        (["actionlint"], "environment: dev\n", "enviroment: dev\n"),
        (shellcheck, "run: uv run sagegate run --env dev", "run: echo $UNQUOTED"),
        (["zizmor", "--offline", ".github"], "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7"),
    ):
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")
        assert tool(own_project, *command).returncode != 0, command


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
        if not {"workflows", "actions"} & set(name.parts) or name.suffix != ".yml":
            continue
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if "uses:" in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line), f"{name}: {line}"


def test_the_locks_with_download_addresses_are_not_committed() -> None:
    assert [str(name) for name in tracked_files(ROOT) if name.name == "uv.lock"] == []
