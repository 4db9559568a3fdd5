"""This repository's own workflows, run as they are; what a job would run is recorded, for it would be this suite."""

from __future__ import annotations

import sys
from pathlib import Path

from clean_copy import ROOT, copy_template
from workflow_lab import Repository, workflow_files


def recorder(folder: Path) -> None:
    """`make` and `uv` that note how they were called, and fail for what `failing` names."""
    folder.mkdir()
    script = (
        "import pathlib, sys\n"
        "call = ' '.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])\n"
        "folder = pathlib.Path(sys.argv[0]).parent\n"
        "with (folder / 'calls').open('a') as calls: calls.write(call + '\\n')\n"
        "if call == 'make example': pathlib.Path('build/example').mkdir(parents=True); "
        "pathlib.Path('build/example/README.md').touch()\n"
        "if call == 'uv --version': print('uv 0')\n"
        "sys.exit(call in (folder / 'failing').read_text().splitlines())\n"
    )
    (folder / "failing").write_text("", encoding="utf-8")
    for name in ("make", "uv"):
        file = folder / name
        file.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
        file.chmod(0o755)


def test_every_job_runs_and_one_failure_fails_the_required_check(tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    recorder(commands)
    repository = Repository(copy_template(tmp_path / "template"), tmp_path / "lab", Path(sys.prefix))
    try:
        repository.path = [commands]
        repository.extra["STAND_IN_UV"] = str(commands / "uv")
        repository.commit("The template")
        repository.commit("A change")
        run = repository.run("ci.yml", repository.push())
        assert run.jobs == dict.fromkeys(workflow_files(ROOT)["ci.yml"]["jobs"], "success"), run.output
        calls = (commands / "calls").read_text(encoding="utf-8").splitlines()
        assert {"make lint", "make demo", "make test", "make example"} <= set(calls)
        assert calls.count("make test") == 2, "on Linux and on macOS"
        assert any(call.startswith("uv run pytest") for call in calls), "on Windows"
        assert (repository.artifacts / "example" / "build" / "example" / "README.md").is_file()

        (commands / "failing").write_text("make lint\n", encoding="utf-8")
        failed = repository.run("ci.yml", repository.push())
        assert failed.jobs["lint"] == "failure" and failed.jobs["ci"] == "failure", failed.output
    finally:
        repository.close()
