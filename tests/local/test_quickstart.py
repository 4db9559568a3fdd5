"""The first steps with a generated project, through the command line: run, status, approve, serve, invoke."""

import json
import os
import re
import signal
import subprocess
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import Bake, RunIn, without_shell_settings

SERVING = re.compile(r"serving \S+ model (\d+) on (http://127\.0\.0\.1:\d+)")


def start(
    python: Path,
    project: Path,
    *arguments: str,
    stdout: int = subprocess.PIPE,
    stderr: int | None = None,
    is_warm: bool = False,
) -> subprocess.Popen[str]:
    """Start a command of sagegate in a project; as a process that can be killed itself, unless it `is_warm`."""
    command = [str(python), "-m", "sagegate", *arguments]
    env = without_shell_settings({"PYTHONPATH": str(ROOT / "src")} | ({} if is_warm else {"WARM_PYTHON": ""}))

    def heed_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that run in the background may ignore it

    return subprocess.Popen(
        command, cwd=project, env=env, stdout=stdout, stderr=stderr, text=True, preexec_fn=heed_ctrl_c
    )


@contextmanager
def served(python: Path, project: Path, *arguments: str) -> Iterator[str]:
    """Run `sagegate serve` on a free port and yield its URL."""
    with start(python, project, "serve", "--port", "0", *arguments, is_warm=True) as server:
        assert server.stdout is not None
        try:
            tested, first = server.stdout.readline(), server.stdout.readline()
            match = SERVING.search(first)
            assert "smoke test passed" in tested and match, f"sagegate serve printed {tested!r} {first!r}"
            yield match[2]
        finally:
            server.terminate()
            server.wait(timeout=20)


def post(url: str, body: bytes, content_type: str) -> tuple[int, str]:
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def shape(text: str) -> list[str]:
    """Return the lines of an output without what differs between runs: spaces, execution, numbers."""
    text = re.sub(r"execution [a-z0-9]{12}", "execution E", text)
    return [" ".join(line.split()) for line in re.sub(r"\d+(\.\d+)?(e-\d+)?", "N", text).splitlines()]


def is_shown(readme: str, said: str) -> bool:
    """Return True if each part of the README's output is in what the commands said, in this order."""
    (block,) = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)
    parts = [part for part in re.split(r"(?m)^(?:\$.*|\.\.\.)\n", block) if part]
    assert len(parts) == 5
    rest = "\n".join(shape(said))
    for part in parts:
        _, found, rest = rest.partition("\n".join(shape(part)))
        if not found:
            return False
    return True


def follow_the_page_about_batches(project: Path, python: Path, url: str) -> None:
    """Run the local commands of docs/how-to/batch.md with a served model."""
    page = (ROOT / "docs" / "how-to" / "batch.md").read_text(encoding="utf-8")
    invoke, write, *_ = (textwrap.dedent(block) for block in re.findall(r"(?s)```sh\n(.*?)```", page))
    uv = f'uv() {{ shift; [ "$1" = python ] || set -- python -m "$@"; shift; "{python}" "$@"; }}\n'  # uv run ...
    answers = []
    for command in (invoke, write + invoke.replace("data/breast_cancer.csv", "rows.csv")):
        script = uv + command.replace(" > ", f" --url {url} > ")
        env = without_shell_settings({"PYTHONPATH": str(ROOT / "src")})
        subprocess.run(["bash", "-e", "-c", script], cwd=project, env=env, check=True)
        answers.append(json.loads((project / "predictions.json").read_text(encoding="utf-8"))["predictions"])
    assert len(answers[0]) == 569 and answers[0] == answers[1]


def test_from_run_to_prediction(bake: Bake, run_in: RunIn, project_env: Path) -> None:
    """The other problem types go the same way with own data (test_your_data.py)."""
    project = bake()
    run = run_in(project, "sagegate", "run")
    assert "model 1 registered" in run.stdout and "no champion yet" in run.stdout
    assert "PendingManualApproval" in run_in(project, "sagegate", "models").stdout

    serve = run_in(project, "sagegate", "serve", check=False)
    assert serve.returncode == 1 and "no model is approved yet" in serve.stderr

    approved = run_in(project, "sagegate", "approve", "1", "--reason", "first model").stdout
    assert "champion" in run_in(project, "sagegate", "models").stdout
    assert "first model" in run_in(project, "sagegate", "models", "1").stdout

    with served(project_env, project) as url:
        with urllib.request.urlopen(f"{url}/ping", timeout=30) as ping:
            assert ping.status == 200
        answer = run_in(project, "sagegate", "invoke", "--url", url).stdout
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        said = run.stdout + approved + answer
        assert is_shown(readme, said) and not is_shown(readme.replace("the champion", "a champion"), said)
        follow_the_page_about_batches(project, project_env, url)
        predictions = json.loads(answer)["predictions"]
        assert len(predictions) > 0 and {"label", "probabilities"} == set(predictions[0])

        status, text = post(url, b"not,a,row\n", "text/csv")
        assert status == 400 and "error" in json.loads(text)
        status, text = post(url, b"<xml/>", "application/xml")
        assert status == 400 and "text/csv" in text


def test_two_runs_of_the_same_code_and_data_give_the_same_bytes(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    for _ in range(2):
        run_in(project, "sagegate", "run", "--no-cache", env={"WARM_PYTHON": ""})  # forks have one hash seed
    for name in ("model.tar.gz", "evaluation.json"):
        first, second = sorted((project / ".mlops" / "s3").rglob(f"executions/**/{name}"))
        assert first.read_bytes() == second.read_bytes(), name


def test_a_second_run_with_nothing_changed_runs_no_job(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    run_in(project, "sagegate", "run")
    again = run_in(project, "sagegate", "run", "--again").stdout
    assert again.count("cached") == 3 and "pipeline unchanged" in again


def test_an_edit_to_train_reruns_train_and_not_preprocess(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    run_in(project, "sagegate", "run")
    script = project / "model" / "train.py"
    script.write_text(script.read_text() + "\n# an edit\n")
    lines = {
        step: line for line in run_in(project, "sagegate", "run").stdout.splitlines() for step in line.split()[1:2]
    }
    assert "cached" in lines["Preprocess"] and "cached" not in lines["Train"]


def test_lineage_is_recorded(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=project, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, check=True, capture_output=True, text=True)
    run_in(project, "sagegate", "run")
    shown = run_in(project, "sagegate", "models", "1").stdout
    assert head.stdout.strip() in shown and "-dirty" not in shown
    with (project / "mlops.toml").open("a") as settings:
        settings.write("\n# edited\n")
    run_in(project, "sagegate", "run", "--again")
    assert f"{head.stdout.strip()}-dirty" in run_in(project, "sagegate", "models", "2").stdout


def test_status_shows_what_failed_and_its_log(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    assert "nothing has run yet" in run_in(project, "sagegate", "status").stdout
    (project / "model" / "train.py").write_text("print('about to break')\nraise RuntimeError('out of cheese')\n")
    failed = run_in(project, "sagegate", "run", check=False)
    assert failed.returncode == 1
    assert "about to break" in failed.stdout and "Step Train failed: RuntimeError: out of cheese" in failed.stdout
    listed = run_in(project, "sagegate", "status").stdout
    execution = next((project / ".mlops" / "executions").iterdir()).name
    assert execution in listed and "Failed" in listed
    assert "out of cheese" in run_in(project, "sagegate", "status", execution).stdout


@pytest.mark.parametrize("step", ["Preprocess", "Train", "Evaluate"])
def test_a_killed_run_is_noticed_and_finished_steps_are_kept(
    bake: Bake, run_in: RunIn, project_env: Path, tmp_path: Path, step: str
) -> None:
    project = bake()
    script = project / "model" / f"{step.lower()}.py"
    original = script.read_text()
    started = tmp_path / "started"
    os.mkfifo(started)
    script.write_text(f"import signal\nopen({str(started)!r}, 'w').close()\nsignal.pause()\n")
    with start(project_env, project, "run", stdout=subprocess.DEVNULL) as run:
        started.open().close()  # returns when the step has begun
        run.kill()

    listed = run_in(project, "sagegate", "status").stdout
    assert "Failed" in listed and "ended before it" in listed
    assert "no model is registered" in run_in(project, "sagegate", "models").stdout

    script.write_text(original)
    again = run_in(project, "sagegate", "run").stdout
    assert "model 1 registered" in again
    lines = step_lines(again)
    finished = [name for name in ("Preprocess", "Train", "Evaluate") if "cached" in lines[name]]
    assert finished == ["Preprocess", "Train", "Evaluate"][: ["Preprocess", "Train", "Evaluate"].index(step)]


def test_two_runs_at_once_are_both_right(bake: Bake, run_in: RunIn, project_env: Path) -> None:
    project = bake()
    sets = [f"max_depth={depth}" for depth in (2, 3)]
    runs = [start(project_env, project, "run", "--set", value) for value in sets]
    outputs = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sorted(text.split(" registered")[0][-1] for text in outputs) == ["1", "2"]
    assert {"1", "2"} == {line.split()[0] for line in run_in(project, "sagegate", "models").stdout.splitlines()[1:]}


def test_ctrl_c_stops_the_jobs_and_leaves_a_stopped_execution(
    bake: Bake, run_in: RunIn, project_env: Path, tmp_path: Path
) -> None:
    project = bake()
    started, ended = tmp_path / "started", tmp_path / "ended"
    os.mkfifo(started)
    os.mkfifo(ended)
    # The job keeps `ended` open while it runs, so reading to its end waits for the end of the job.
    text = f"import signal\nheld = open({str(ended)!r}, 'w')\nopen({str(started)!r}, 'w').close()\nsignal.pause()\n"
    (project / "model" / "preprocess.py").write_text(text)
    with start(project_env, project, "run", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        with ended.open() as job:
            started.open().close()
            run.send_signal(signal.SIGINT)
            assert job.read() == ""
        assert run.stderr is not None
        assert "stopped" in run.stderr.read()
    assert run.returncode == 130
    assert "Stopped" in run_in(project, "sagegate", "status").stdout


def step_lines(stdout: str) -> dict[str, str]:
    """Return the line that `sagegate run` printed for each step."""
    return {words[1]: line for line in stdout.splitlines() if len(words := line.split()) > 2 and line.startswith("  ")}


def test_part_of_the_pipeline_runs_on_earlier_results(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    none = run_in(project, "sagegate", "run", "--only", "Train", check=False)
    assert none.returncode == 1
    assert "no earlier execution" in none.stderr
    run_in(project, "sagegate", "run")
    lines = step_lines(run_in(project, "sagegate", "run", "--from", "Evaluate", "--no-cache").stdout)
    assert "taken from" in lines["Preprocess"] and "taken from" in lines["Train"]
    assert "taken from" not in lines["Evaluate"] and "Register" in lines
    lines = step_lines(run_in(project, "sagegate", "run", "--only", "Train", "--set", "max_depth=2").stdout)
    assert "taken from" in lines["Preprocess"] and "Evaluate" not in lines
    wrong = run_in(project, "sagegate", "run", "--from", "Trane", check=False)
    assert wrong.returncode == 2
    assert "no step 'Trane'" in wrong.stderr
    both = run_in(project, "sagegate", "run", "--from", "Train", "--only", "Train", check=False)
    assert both.returncode == 2


def test_a_failed_execution_is_retried_from_where_it_failed(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    script = project / "model" / "evaluate.py"
    wait = f"import pathlib\nif not pathlib.Path({str(tmp_path / 'ok')!r}).exists(): raise SystemExit('not yet')\n"
    script.write_text(script.read_text().replace("import argparse\n", f"import argparse\n{wait}", 1))
    assert run_in(project, "sagegate", "run", check=False).returncode == 1
    (tmp_path / "ok").touch()
    execution = run_in(project, "sagegate", "status").stdout.splitlines()[1].split()[0]
    retried = run_in(project, "sagegate", "run", "--retry", execution).stdout
    assert "model 1 registered" in retried
    assert len(run_in(project, "sagegate", "status").stdout.splitlines()) == 2
    again = run_in(project, "sagegate", "run", "--retry", execution, check=False)
    assert again.returncode == 1
    assert "is Succeeded" in again.stderr
