"""The processes of jobs: none outlives its job, the process that forks jobs, or the one that runs the execution."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_lab import Lab

from sagegate.local.launcher import PACKAGE

ENVIRONMENT = os.environ | {"PYTHONPATH": str(PACKAGE)}


def is_gone(pid: int) -> bool:
    """Whether a process ends within some seconds; one that only its parent has yet to take note of has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        file = Path(f"/proc/{pid}/stat")
        try:
            if file.read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def content(file: Path) -> str:
    """A file's first line, once it is there."""
    deadline = time.monotonic() + 20
    while not (file.is_file() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{file.name} was not written"
        time.sleep(0.01)
    return file.read_text().strip()


BACKGROUND = "import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid)\n"


@pytest.mark.parametrize("how", ["fork", "fork that reports nothing", "process"])
def test_what_a_job_leaves_running_ends_with_it(lab: Lab, how: str) -> None:
    more = "import os, sys\nsys.stdout.flush()\nos._exit(0)\n" if how == "fork that reports nothing" else ""
    step = lab.processing("Step", BACKGROUND + more)
    if how == "process":
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
def test_a_script_may_do_with_its_output_what_it_likes(lab: Lab, end: str) -> None:
    done = lab.run(lab.processing("Step", f"import sys\nprint('hi', end='')\n{end}\n"))
    assert done.status == "Succeeded", done.reason
    assert lab.client.log_lines(done.arn, "Step", 9) == ["hi"]


def test_files_that_a_script_does_not_close_are_written(lab: Lab) -> None:
    script = (
        "import pathlib\ndef reach(): return a, b\nbase = pathlib.Path(__file__).parents[2] / 'output' / 'out'\n"
        "a = open(base / 'a', 'w')\na.write('text')\nb = open(base / 'b', 'wb')\nb.write(b'bytes')\n"
    )
    done = lab.run(lab.processing("Step", script))
    folder = lab.output(done, "Step")
    assert [lab.get(f"{folder}/{name}") for name in "ab"] == ["text", "bytes"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_output_that_cannot_be_written_fails_the_job(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", "import sys\nsys.stdout = open('/dev/full', 'w')\nprint('hi')\n"))
    assert "(exit code 120)" in done.reason


def test_jobs_end_when_the_process_that_forks_them_is_killed(lab: Lab) -> None:
    file = lab.root / "pids"
    script = (
        "import os, pathlib, subprocess, time\nchild = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(file)!r}).write_text(f'{{os.getpid()}} {{child.pid}}\\n')\ntime.sleep(60)\n"
    )
    lab.run(lab.processing("First", ""))
    step = lab.processing("Step", script)
    definition = json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": [step]})
    lab.client.update_pipeline(PipelineName="p", PipelineDefinition=definition, RoleArn="arn:aws:iam::0:role/x")
    arn = lab.client.start_pipeline_execution(PipelineName="p")["PipelineExecutionArn"]
    pids = [int(pid) for pid in content(file).split()]
    assert lab.client.launcher._zygote is not None
    lab.client.launcher._zygote.kill()
    assert "ended by signal 9" in lab.ended(arn).reason
    assert [is_gone(pid) for pid in pids] == [True, True]
    assert lab.run(lab.processing("Next", "")).status == "Succeeded", "the next job gets a new one"


def zygote(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """A zygote at the other end of a connection."""
    command = [sys.executable, "-m", "sagegate.local.zygote", str(theirs.fileno())]
    return subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, env=ENVIRONMENT)


def request(folder: Path, script: str) -> bytes:
    """What a launcher sends for a job."""
    (folder / "main.py").write_text(script)
    more = {"modules": [], "mount": "", "hide": [], "environment": {}, "log": str(folder / "log")}
    return json.dumps({"id": 1, "argv": [str(folder / "main.py")], "folder": str(folder), **more}).encode() + b"\n"


SLEEP = "import os, pathlib, time\npathlib.Path('pid').write_text(f'{os.getpid()}\\n')\ntime.sleep(60)\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a process with its parent on Linux only")
def test_jobs_end_with_the_process_that_forks_them_though_nobody_else_is_left(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, zygote(theirs) as process:
        ours.sendall(request(tmp_path, SLEEP))
        pid = int(content(tmp_path / "pid"))
        process.kill()
    assert is_gone(pid)


def test_an_end_in_the_middle_of_an_answer_ends_the_jobs_quietly(tmp_path: Path) -> None:
    """The other end is gone when the job's process id is to be sent; what Ctrl-C does now and then."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(request(tmp_path, f"import time\ntime.sleep(0.5)\n{SLEEP}"))
        ours.close()
        process = zygote(theirs)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, b"")
    time.sleep(1)
    assert not (tmp_path / "pid").exists()


def test_a_job_that_has_only_just_been_forked_can_be_ended(tmp_path: Path) -> None:
    """Its group is there as soon as its process id is known, though the fork itself has done nothing yet."""
    code = (
        "import os, signal, time\nfrom sagegate.local import zygote\nzygote._become = lambda *_: time.sleep(60)\n"
        "pid = zygote.fork({}, [], 0)\nos.killpg(pid, signal.SIGKILL)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGKILL}\n", "")


@pytest.mark.parametrize("kind", ["script", "shell"])
def test_jobs_end_when_the_process_that_runs_the_execution_is_killed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "main.py").write_text(SLEEP)
    argv = ["python3", str(tmp_path / "main.py")] if kind == "script" else ["sh", "-c", "echo $$ > pid; sleep 60"]
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom sagegate.local.launcher import Command, Launcher\n"
        "root = Path(sys.argv[1])\n"
        "Launcher(root).start(Command(sys.argv[2:], dict(os.environ), root, root / 'log'))\n"
        "print('started', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *argv]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"started\n"
        pid = int(content(tmp_path / "pid"))
        time.sleep(1)
        process.kill()
    assert is_gone(pid)
