"""The processes of jobs: they behave like plain Python processes, and none outlives its job or the command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from local_lab import Lab

from sagegate.errors import SagegateError
from sagegate.local import processes

Json = dict[str, Any]
PACKAGE = Path(processes.__file__).resolve().parents[2]


def is_gone(pid: int) -> bool:
    """Return True if a process ends within ten seconds. A zombie has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def content(file: Path) -> str:
    """Wait for a file's first line and return it."""
    deadline = time.monotonic() + 20
    while not (file.is_file() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{file.name} was not written"
        time.sleep(0.01)
    return file.read_text().strip()


def log_of(lab: Lab, script: str) -> list[str]:
    """Run a script as a step and return its log."""
    done = lab.run(lab.processing("Step", script))
    assert done.status == "Succeeded", done.reason
    return lab.client.log_lines(done.arn, "Step", 99)


BACKGROUND = "import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid)\n"


@pytest.mark.parametrize("kind", ["script", "script that exits at once", "shell"])
def test_background_processes_of_a_job_end_with_it(lab: Lab, kind: str) -> None:
    at_once = "import os, sys\nsys.stdout.flush()\nos._exit(0)\n" if kind == "script that exits at once" else ""
    step = lab.processing("Step", BACKGROUND + at_once)
    if kind == "shell":
        step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = ["sh", "-c", "sleep 60 & echo $!"]
    began = time.monotonic()
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    assert time.monotonic() - began < 30
    assert is_gone(int(lab.client.log_lines(done.arn, "Step", 1)[0]))


@pytest.mark.parametrize(
    "end",
    [
        "sys.stdout.close()",
        "sys.stdout = sys.stderr = None",
        "sys.stdout = open('x', 'w')",
        "import io; sys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-8')",
    ],
)
def test_a_script_may_close_or_replace_its_output(lab: Lab, end: str) -> None:
    assert log_of(lab, f"import sys\nprint('hi', end='')\n{end}\n") == ["hi"]


def test_files_that_a_script_leaves_open_are_written(lab: Lab) -> None:
    script = (
        "import pathlib, types\ndef reach(): return a, b\nbase = pathlib.Path(__file__).parents[2] / 'output' / 'out'\n"
        "a = open(base / 'a', 'w')\na.write('text')\nb = open(base / 'b', 'wb')\nb.write(b'bytes')\n"
        "import json\njson.kept = open(base / 'c', 'w')\njson.kept.write('of a module')\n"
    )
    done = lab.run(lab.processing("Step", script))
    folder = lab.output(done, "Step")
    assert [lab.get(f"{folder}/{name}") for name in "abc"] == ["text", "bytes", "of a module"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_output_that_cannot_be_written_fails_the_job(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", "import sys\nsys.stdout = open('/dev/full', 'w')\nprint('hi')\n"))
    assert "(exit code 120)" in done.reason


def test_a_traceback_shows_the_script_and_nothing_of_the_package(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", "def f():\n    raise ValueError('too small')\n\nf()\n"))
    assert done.reason == "Step Step failed: ValueError: too small (exit code 1)"
    log = lab.client.log_lines(done.arn, "Step", 99)
    assert log[0] == "Traceback (most recent call last):"
    assert [line.rpartition("/")[2] for line in log if "File " in line] == [
        'main.py", line 4, in <module>',
        'main.py", line 2, in f',
    ]


def test_a_script_may_use_multiprocessing_as_it_likes(lab: Lab) -> None:
    script = (
        "import multiprocessing\nif __name__ == '__main__':\n    multiprocessing.set_start_method('spawn')\n"
        "    with multiprocessing.Pool(2) as pool:\n        print(pool.map(abs, [-1, 2]))\n"
    )
    assert log_of(lab, script) == ["[1, 2]"]


def test_signals_of_a_shell_command_are_the_usual_ones(lab: Lab) -> None:
    """`yes` ends quietly when `head` closes the pipe."""
    step = lab.processing("Step", "")
    step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = ["sh", "-c", "yes | head -n 1"]
    done = lab.run(step)
    assert lab.client.log_lines(done.arn, "Step", 9) == ["y"]


def test_no_process_of_an_ended_job_stays_behind(lab: Lab) -> None:
    server = {log_of(lab, "import os\nx = bytearray(50_000_000)\nprint(os.getppid())\n")[0] for _ in range(3)}
    assert len(server) == 1, "one process starts all jobs"

    def children() -> list[str]:
        found = [Path(f"/proc/{pid}/stat") for pid in os.listdir("/proc") if pid.isdigit()]
        parents = [file.read_text().rpartition(")")[2].split()[1] for file in found if file.exists()]
        return [parent for parent in parents if parent in server]

    assert children() == []


def sleeper(file: Path) -> str:
    """Return a script that writes three process ids to a file, its parent's, its own and its child's, and sleeps."""
    return (
        "import os, pathlib, subprocess, time\nchild = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(file)!r}).write_text(f'{{os.getppid()}} {{os.getpid()}} {{child.pid}}\\n')\n"
        "time.sleep(60)\n"
    )


def test_jobs_fail_and_end_when_the_process_that_starts_them_is_killed(lab: Lab) -> None:
    file = lab.root / "pids"
    lab.run(lab.processing("First", ""))
    step = lab.processing("Step", sleeper(file))
    definition = json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": [step]})
    lab.client.update_pipeline(PipelineName="p", PipelineDefinition=definition, RoleArn="arn:aws:iam::0:role/x")
    arn = lab.client.start_pipeline_execution(PipelineName="p")["PipelineExecutionArn"]
    server, *pids = [int(pid) for pid in content(file).split()]
    os.kill(server, signal.SIGKILL)
    assert "ended by signal 9" in lab.ended(arn).reason
    assert [is_gone(pid) for pid in pids] == [True, True]
    assert lab.run(lab.processing("Next", "")).status == "Succeeded", "the next job gets a new server"


def test_a_system_without_fork_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(SagegateError, match="on Windows, use WSL"):
        processes.Launcher(tmp_path)


@pytest.mark.parametrize("kind", ["script", "shell"])
def test_nothing_is_left_when_the_command_is_killed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "main.py").write_text(sleeper(tmp_path / "pids"))
    shell = ["sh", "-c", "sleep 60 & echo $PPID $$ $! > pids; sleep 60"]
    argv = ["python3", str(tmp_path / "main.py")] if kind == "script" else shell
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom sagegate.local.processes import Command, Launcher\n"
        "root = Path(sys.argv[1])\nlauncher = Launcher(root)\n"
        "launcher.start(Command(sys.argv[2:], dict(os.environ), root, root / 'log')).wait()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *argv]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(PACKAGE)}) as process:
        pids = [int(pid) for pid in content(tmp_path / "pids").split()]
        process.kill()
    assert [is_gone(pid) for pid in pids] == [True, True, True]
