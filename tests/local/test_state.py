"""Local state that was damaged, filled up or left over: commands go on, or say in one line what to do."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Bake, RunIn
from local_lab import Lab, Outcome, write
from test_quickstart import start

from sagegate.errors import SagegateError
from sagegate.files import write_json
from sagegate.local import client, processes
from sagegate.local.storage import TICK_NS, Store

CACHED = {"CacheConfig": {"Enabled": True, "ExpireAfter": "P30D"}}


def is_cached(outcome: Outcome, step: str = "Step") -> bool:
    assert outcome.status == "Succeeded", outcome.reason
    return "CacheHitResult" in outcome.steps[step]


def folder_instead(file: Path) -> None:
    file.unlink()
    (file / "inner").mkdir(parents=True)


def edited(old: str, new: str) -> Callable[[Path], None]:
    """Return a damage that leaves a file JSON of the same shape."""

    def change(file: Path) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "not-json": lambda file: file.write_text("{"),
    "a-list": lambda file: file.write_text("[]"),
    "no-keys": lambda file: file.write_text("{}"),
    "wrong-types": lambda file: file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 7))),
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "not-text": lambda file: file.write_bytes(b"\xff\0"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "folder": folder_instead,
}


@pytest.mark.parametrize("damage", [*DAMAGES.values(), edited("/out", "/no")], ids=[*DAMAGES, "another-output"])
def test_a_damaged_cache_entry_is_a_miss(lab: Lab, damage: Callable[[Path], None]) -> None:
    step = lab.processing("Step", write("'x'"), step=CACHED)
    assert not is_cached(lab.run(step))
    (entry,) = (lab.root / ".mlops" / "cache").iterdir()
    damage(entry)
    again = lab.run(step)
    assert not is_cached(again)
    assert lab.get(lab.output(again, "Step") + "/x.txt") == "x"
    assert is_cached(lab.run(step))


@pytest.mark.parametrize("damage", [*DAMAGES.values(), edited("[", "[0, ")], ids=[*DAMAGES, "another-size"])
def test_damaged_digests_are_computed_again(lab: Lab, damage: Callable[[Path], None]) -> None:
    file = Path(lab.put("a", "text").replace("s3://", f"{lab.store.folder}/"))
    os.utime(file, ns=(0, 0))
    digest = lab.store.file_digest(file)
    known = lab.root / ".mlops" / "digests.json"
    known.write_bytes(b"{}")
    write_json(known, {"Files": {str(file): [4, 0, file.stat().st_ctime_ns, file.stat().st_ino, "0" * 64]}})
    damage(known)
    store = Store(lab.store.folder)
    assert store.file_digest(file) == digest
    store.save_digests()


def test_a_change_in_the_same_tick_and_of_the_same_size_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lab.root / "data.csv"
    file.write_text("1,2")
    state = os.stat(file)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: state)
    first = lab.store.file_digest(file)
    file.write_text("1,3")
    assert lab.store.file_digest(file) != first


def test_a_change_that_keeps_size_and_modification_time_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lab.root / "data.csv"
    file.write_text("1,2")
    monkeypatch.setattr("time.time_ns", lambda: file.stat().st_ctime_ns + 2 * TICK_NS)
    before = file.stat()
    first = lab.store.file_digest(file)
    while file.stat().st_ctime_ns == before.st_ctime_ns:
        file.write_text("1,3")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert lab.store.file_digest(file) != first


def test_a_library_that_was_installed_again_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    record = lab.root / "site" / "a_library-1.0.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"purelib": str(lab.root / "site")})
    found = []
    for content in ("a.py,sha256=1,1", "a.py,sha256=1,1", "a.py,sha256=2,1"):
        record.write_text(content)
        found.append(is_cached(lab.run(lab.processing("Step", write("'x'"), step=CACHED))))
    assert found == [False, True, False]


def test_a_result_is_not_cached_if_an_input_changed_meanwhile(lab: Lab) -> None:
    data = lab.put("champion/a", "old")
    file = Path(data.replace("s3://", f"{lab.store.folder}/"))
    code = f"open({str(file)!r}, 'w').write('new')\n" + write("'x'")
    step = lab.processing("Step", code, {"data": data}, step=CACHED)
    lab.run(step)
    file.write_text("old")
    assert not is_cached(lab.run(step))


RECORDS = {
    "registry": ("registry/my-model/1.json", ["models 1", "approve 1 --reason x", "serve 1 --port 0"]),
    "execution": ("executions/*/execution.json", ["status {id}", "explain {id}", "stop {id}"]),
    "step": ("executions/*/steps/Train.json", ["status {id}", "explain {id}", "models --compare"]),
    "definition": ("executions/*/definition.json", ["models --compare", "run --retry {id}"]),
    "description": ("descriptions/*-Evaluate-*.json", ["models --compare"]),
    "pipeline": ("pipelines/my-model/1.json", ["run --again", "plan"]),
    "champion": ("s3/*/my-model/champion/champion.json", ["serve --port 0", "reject 1 --reason x"]),
}


def test_a_damaged_record_is_named_by_each_command_that_reads_it(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    state = project / ".mlops"
    run_in(project, "sagegate", "run")
    run_in(project, "sagegate", "approve", "1", "--reason", "good")
    execution = next((state / "executions").iterdir()).name
    for number, (place, commands) in enumerate(RECORDS.values()):
        (file,) = state.glob(place)
        kept = file.read_bytes()
        for command in commands:
            list(DAMAGES.values())[number](file)
            done = run_in(project, "sagegate", *command.format(id=execution).split(), check=False)
            assert done.returncode == 1, (command, done.stdout, done.stderr)
            (line,) = done.stderr.splitlines()
            assert file.name in line and "is damaged" in line and ("delete" in line or "approve" in line)
            file.write_bytes(kept)

    # Lists show what is sound, and name what is not; other files between the records are nothing to them.
    for name in ("notes.json", "7 copy.json", "08.json"):
        (state / "registry" / "my-model" / name).write_text("")
        (state / "pipelines" / "my-model" / name).write_text("")
    (state / "registry" / "my-model" / "7.json").write_text("")
    (state / "executions" / "abcdefghijkl").mkdir()
    (state / "executions" / "abcdefghijkl" / "execution.json").write_text("")
    (file,) = state.glob(RECORDS["champion"][0])
    file.write_text("[]")
    listed = run_in(project, "sagegate", "models")
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [["7", "damaged"], ["1", "Approved"]]
    assert "7.json is damaged" in listed.stderr and "champion.json is damaged" in listed.stderr
    run_in(project, "sagegate", "approve", "1", "--reason", "again")
    again = run_in(project, "sagegate", "run", "--no-cache")
    assert "model 8 registered" in again.stdout
    listed = run_in(project, "sagegate", "status")
    assert "abcdefghijkl/execution.json is damaged" in listed.stderr and listed.stdout.count("Succeeded") == 2


@pytest.mark.parametrize("content", ["5", '["a", 1]', "{", '["-c"]', "null", "[" * 100_000])
def test_a_damaged_note_of_libraries_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / ".mlops").mkdir()
    (tmp_path / ".mlops" / "libraries.json").write_text(content)
    assert processes.remembered_libraries(tmp_path, run_all=True) == ()


def test_files_are_synced_before_they_are_renamed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()  # inodes
    renamed: dict[str, bool] = {}  # file: was it synced before?
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def noted_replace(old: Path, new: Path) -> None:
        inode = os.stat(old).st_ino
        renamed[str(new)] = inode in synced
        synced.discard(inode)
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    group = {"Name": "R", "Type": "RegisterModel", "Arguments": {"ModelPackageGroupName": "group"}}
    done = lab.run(lab.processing("Step", write("'x'")), group)
    for file in (lab.root / ".mlops/registry/group/1.json", lab.store.objects(lab.output(done, "Step"))[0][1]):
        assert renamed[str(file)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_as_ctrl_c_does(
    bake: Bake, run_in: RunIn, project_env: Path, tmp_path: Path, number: signal.Signals
) -> None:
    project = bake()
    os.mkfifo(tmp_path / "started")
    text = f"import os, signal\nopen({str(tmp_path / 'started')!r}, 'w').write(str(os.getpid()))\nsignal.pause()\n"
    (project / "model" / "preprocess.py").write_text(text)
    with start(project_env, project, "run", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        job = int((tmp_path / "started").read_text())
        run.send_signal(number)
        _, error = run.communicate(timeout=60)
    assert run.returncode == 128 + number and error.startswith("sagegate: execution") and "stopped" in error
    assert "Stopped" in run_in(project, "sagegate", "status").stdout
    assert not Path(f"/proc/{job}").exists()


@pytest.mark.parametrize("how", ["stop", "close"])
def test_an_import_does_not_hold_up_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The library never ends its import, so a stop that waited for it would never end."""
    os.mkfifo(tmp_path / "began")
    library = tmp_path / "slow_library.py"
    library.write_text(f"open({str(tmp_path / 'began')!r}, 'w').close()\nimport time\ntime.sleep(600)\n")
    real = subprocess.Popen

    def popen(command: list[str], **more: object) -> object:
        """Start the fork server with the library on its path."""
        code = f"import sys; sys.path.append({str(tmp_path)!r}); sys.argv = sys.argv[1:]; sys.path.insert(0, '')\n"
        code += f"exec(compile(open({command[1]!r}).read(), {command[1]!r}, 'exec'))"
        return real([command[0], "-c", code, *command[1:]], **more)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", popen)
    lab_client = client.LocalSageMaker(
        tmp_path, Store(tmp_path / ".mlops/s3"), "us-east-1", "0" * 12, lambda _: ("slow_library",)
    )
    lab = Lab(tmp_path, lab_client, lab_client.context.store)
    step = lab.processing("Step", "")
    definition = json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": [step]})
    lab_client.create_pipeline(PipelineName="p", PipelineDefinition=definition, RoleArn="role")
    arn = lab_client.start_pipeline_execution(PipelineName="p")["PipelineExecutionArn"]
    (tmp_path / "began").read_text()
    if how == "stop":
        lab_client.stop_pipeline_execution(PipelineExecutionArn=arn)
        assert lab.ended(arn).status == "Stopped"
    lab_client.close()
    assert lab_client.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"] == "Stopped"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("command", [["--version"], ["models"], ["run"]])
def test_a_full_standard_output_is_one_line(bake: Bake, project_env: Path, command: list[str]) -> None:
    project = bake()
    with (
        open("/dev/full", "w") as full,
        start(project_env, project, *command, stdout=full.fileno(), stderr=subprocess.PIPE) as run,
    ):
        _, error = run.communicate(timeout=120)
    assert run.returncode == 1 and "Traceback" not in error
    assert error.splitlines() == ["sagegate: No space left on device: make room, for example by `sagegate clean`"]


def test_clean_keeps_what_registered_models_and_new_executions_need(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    state = project / ".mlops"

    def sagegate(*args: str) -> str:
        return run_in(project, "sagegate", *args).stdout

    data = project / "data" / "breast_cancer.csv"
    for value, count in (("2", 500), ("3", 400)):  # two models on other data, each followed by one that is rejected
        data.write_text("".join(data.read_text().splitlines(keepends=True)[:count]))
        sagegate("run", "--set", f"max_depth={value}", "--set", "GateMinImprovement=-1.0")
        sagegate("approve", "1", "--reason", "good")
        assert run_in(project, "sagegate", "run", "--set", "GateThreshold=2.0", check=False).returncode == 3
    left_by_a_killed_command = state / "registry" / ".sagegate-tmp-abcdefgh"
    left_by_a_killed_command.touch()
    os.utime(left_by_a_killed_command, (0, 0))
    before = {file: file.stat().st_size for file in state.rglob("*") if file.is_file()}
    shown = sagegate("models"), sagegate("models", "1"), sagegate("models", "2")
    promised = sagegate("clean", "--keep", "1", "--dry-run")
    assert before.keys() <= {file for file in state.rglob("*") if file.is_file()}
    assert sagegate("clean", "--keep", "1") == promised.replace("would free", "freed")
    assert "1 executions" in promised and not promised.startswith("would free 0.0 MB")
    assert not left_by_a_killed_command.exists()
    assert shown == (sagegate("models"), sagegate("models", "1"), sagegate("models", "2"))
    assert sagegate("status").count("Succeeded") == 2 and "Rejected" in sagegate("status")
    assert len(list(state.glob("s3/*/my-model/intermediate/*"))) == 1
    sagegate("deploy", "local")
    again = run_in(project, "sagegate", "run", "--set", "GateThreshold=2.0", check=False)
    assert again.returncode == 3 and again.stdout.count("cached") == 3, "the newest results still serve"
    assert sagegate("clean", "--keep", "1").startswith("freed 0.0 MB")


def test_clean_leaves_a_running_execution_alone(lab: Lab) -> None:
    from sagegate.local.clean import clean
    from sagegate.local.state import Execution

    running = Execution.create(lab.root / ".mlops" / "executions", "arn:p", {}, {})
    with pytest.raises(SagegateError, match=f"execution {running.id} is running"):
        clean(lab.root / ".mlops", lab.store, "s3://bucket/p", 1, dry_run=False)
    running.finish("Failed")
