"""Pages in docs/how-to whose commands and code a test follows; the others are followed beside what they are about."""

import re
import subprocess
from pathlib import Path

from clean_copy import ROOT
from conftest import Bake, RunIn, run_module

HOW_TO = ROOT / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language in a page of docs/how-to."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", (HOW_TO / page).read_text(encoding="utf-8"))


def test_the_page_about_own_steps_works_as_written(bake: Bake, sdk_env: Path, run_in: RunIn) -> None:
    project = bake()
    (script,), (diff,), (commands,) = (blocks("own-step.md", language) for language in ("python", "diff", "sh"))
    (project / "model" / "check_data.py").write_text(script, encoding="utf-8")
    subprocess.run(["git", "apply", "-"], cwd=project, input=diff, text=True, check=True)
    compiles, *others = (line.split()[2:] for line in commands.splitlines())
    assert "changed: commit it" in run_module(sdk_env, project, *compiles).stdout
    check, run = (run_in(project, *command).stdout for command in others)
    assert "ok: 7 steps" in check
    steps = [line.split()[1] for line in run.splitlines() if line.startswith("  Succeeded")]
    assert steps == ["Preprocess", "CheckData", "Train", "Evaluate", "Gate", "Register"]

    data = project / "data" / "breast_cancer.csv"
    lines = data.read_text(encoding="utf-8").splitlines()
    emptied = [f",{line.partition(',')[2]}" if n % 3 == 1 else line for n, line in enumerate(lines)]
    data.write_text("\n".join(emptied), encoding="utf-8")
    failed = run_in(project, "sagegate", "run", check=False)
    assert failed.returncode == 1 and "Train" not in failed.stdout
    assert "of the cells are missing, at most 20% may be" in failed.stdout
