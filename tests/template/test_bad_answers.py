"""A wrong answer stops the bake with a line that names it and shows a right one, leaving nothing behind."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clean_copy import ROOT
from conftest import PROJECT_FOLDER, Bake, bake_template
from cookiecutter.environment import StrictEnvironment
from cookiecutter.exceptions import FailedHookException

RIGHT = {
    "project_name": "Tumour Classifier",
    "project_slug": "tumour-classifier",
    "github_repository": "my-org/tumour-classifier",
    "problem_type": "regression",
    "aws_region": "eu-central-1",
    "dev_account_id": "012345678901",
    "staging_account_id": "000000000000",
    "prod_account_id": "999999999999",
}
OPEN = "{" + "{"

WRONG = [
    ("project_name", ""),
    ("project_name", "   "),
    ("project_name", "two\nlines"),
    ("project_name", "carriage\rreturn"),
    ("project_name", "nul\0"),
    ("project_name", "escape \x1b[31m"),
    ("project_name", "line separator \u2028"),
    ("project_name", "right-to-left \u202e"),
    ("project_name", "lone surrogate \udc80"),
    ("project_name", "m" * 65),
    ("project_name", f"{OPEN} 7 * 7"),
    ("project_name", "{" + "% raw"),
    ("project_slug", ""),
    ("project_slug", "Tumour"),
    ("project_slug", "tumour_classifier"),
    ("project_slug", "tumour--classifier"),
    ("project_slug", "-tumour"),
    ("project_slug", "tumour-"),
    ("project_slug", "3d"),
    ("project_slug", "tumour\n"),
    ("project_slug", "tümör"),
    ("project_slug", "a/b"),
    ("project_slug", ".."),
    ("project_slug", "m" * 33),
    ("project_slug", "pandas"),
    ("project_slug", "wine-prod"),
    ("github_repository", ""),
    ("github_repository", "no-owner"),
    ("github_repository", "a/b/c"),
    ("github_repository", "/b"),
    ("github_repository", "a/"),
    ("github_repository", "-a/b"),
    ("github_repository", "a-/b"),
    ("github_repository", "a--b/c"),
    ("github_repository", "a/.."),
    ("github_repository", "a/b.git"),
    ("github_repository", "a/b c"),
    ("github_repository", "a/b\n"),
    ("github_repository", "a/b:*"),
    ("github_repository", f"{'a' * 40}/b"),
    ("github_repository", f"{'a-' * 25}a/b"),
    ("github_repository", f"a/{'b' * 101}"),
    ("github_repository", "https://github.com/a/b"),
    ("aws_region", ""),
    ("aws_region", "us-east"),
    ("aws_region", "US-EAST-1"),
    ("aws_region", "us-east-1a"),
    ("aws_region", "us-east-1\n"),
    ("aws_region", "useast1"),
    ("dev_account_id", ""),
    ("dev_account_id", "12345678901"),
    ("dev_account_id", "1234567890123"),
    ("dev_account_id", "1234-5678-9012"),
    ("staging_account_id", "not-known"),
    ("prod_account_id", "\u0661" * 12),
]


def hook(name: str, answers: dict[str, str]) -> SimpleNamespace:
    """A hook rendered with these answers, as cookiecutter does, and loaded as a module."""
    source = (ROOT / "hooks" / f"{name}.py").read_text(encoding="utf-8")
    context = {"cookiecutter": answers}
    rendered = StrictEnvironment(context=context, keep_trailing_newline=True).from_string(source).render(**context)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(rendered.encode("utf-8"), f"{name}.py", "exec"), module)
    return SimpleNamespace(**module)


def test_right_answers_pass() -> None:
    checks = hook("pre_gen_project", RIGHT)
    assert checks.ANSWERS == RIGHT
    assert checks.problems(RIGHT) == []


@pytest.mark.parametrize(
    "answer",
    [
        ("project_slug", "m"),
        ("project_slug", "m" * 32),
        ("github_repository", "a/b"),
        ("github_repository", f"{'a' * 39}/{'b' * 100}"),
        ("github_repository", "Some-Org/.github"),
        ("aws_region", "us-gov-west-1"),
        ("aws_region", "ap-southeast-7"),
        ("aws_region", "us-iso-east-1"),
        ("project_name", r"""it's "\n" $(x) `y` #"""),
    ],
)
def test_unusual_right_answers_pass(answer: tuple[str, str]) -> None:
    answers = RIGHT | dict([answer])
    assert hook("pre_gen_project", answers).problems(answers) == []


@pytest.mark.parametrize(("question", "given"), WRONG)
def test_a_wrong_answer_gives_one_line(question: str, given: str) -> None:
    checks = hook("pre_gen_project", RIGHT | {question: given})
    lines = checks.problems(checks.ANSWERS)
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert lines[0].startswith(f"{question}: ")
    assert "such as" in lines[0]


def test_a_wrong_account_and_region_are_both_reported() -> None:
    answers = RIGHT | {"aws_region": "moon", "dev_account_id": "1"}
    assert [line.partition(":")[0] for line in hook("pre_gen_project", answers).problems(answers)] == [
        "aws_region",
        "dev_account_id",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "'''",
        '"""',
        "\\",
        "\\'",
        "a\nb",
        "\N{MICROSCOPE}",
        "\udc80",
        f"{OPEN} x }}}}",
        "{% raw %}",
        "}}",
        "#}",
        "x" * 10_000,
    ],
)
def test_the_hook_gets_any_answer_unchanged(text: str) -> None:
    answers = RIGHT | {"project_name": text}
    assert answers == hook("pre_gen_project", answers).ANSWERS


def test_a_long_answer_is_shortened_in_its_line() -> None:
    answers = RIGHT | {"project_slug": "x" * 10_000}
    (line,) = hook("pre_gen_project", answers).problems(answers)
    assert len(line) < 300


def test_every_question_but_the_choice_is_checked() -> None:
    questions = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    free = {name for name, default in questions.items() if not name.startswith("_") and isinstance(default, str)}
    assert set(hook("pre_gen_project", RIGHT).CHECKS) == free


def test_every_dependency_is_refused_as_the_name_of_a_project(baked: Bake) -> None:
    metadata = tomllib.loads((baked() / "pyproject.toml").read_text(encoding="utf-8"))
    needs = metadata["project"]["dependencies"] + [n for group in metadata["dependency-groups"].values() for n in group]
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split("[ =>@]", need)[0] for need in [*needs, *own]}
    assert names == hook("pre_gen_project", RIGHT).DEPENDENCIES


def run_cookiecutter(template: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The real command, apart from the user's own configuration and replay files."""
    config = output.parent / "config.json"
    folders = {
        "cookiecutters_dir": str(output.parent / "copies"),
        "replay_dir": str(output.parent / "replay"),
    }
    config.write_text(json.dumps(folders), encoding="utf-8")
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--config-file", str(config)]
    command += ["--output-dir", str(output), str(template), *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("question", "given"),
    [("project_slug", "Tumour_Classifier"), ("dev_account_id", "123"), ("project_name", "a\nb")],
)
def test_the_command_stops_and_leaves_nothing(template: Path, tmp_path: Path, question: str, given: str) -> None:
    output = tmp_path / "output"
    output.mkdir()
    done = run_cookiecutter(template, output, f"{question}={given}")
    assert done.returncode != 0
    # Cookiecutter adds a traceback of its own for any hook that fails; the hook's line comes before it.
    assert done.stderr.startswith(f"{question}: ")
    assert "pre_gen_project.py" not in done.stderr.partition("ERROR:")[0]
    assert list(output.iterdir()) == []


def test_an_existing_folder_is_left_as_it_was(template: Path, tmp_path: Path) -> None:
    kept = tmp_path / "output" / "my-model" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine", encoding="utf-8")
    for options in (["aws_region=moon"], ["--overwrite-if-exists", "aws_region=moon"]):
        assert run_cookiecutter(template, tmp_path / "output", *options).returncode != 0
        assert [path.name for path in kept.parent.iterdir()] == ["notes.txt"]
        assert kept.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("slug", ["a/b", "../outside", "a/../../outside"])
def test_a_slug_that_is_a_path_leaves_no_file_anywhere(template: Path, tmp_path: Path, slug: str) -> None:
    """Cookiecutter makes the folder before it asks the hook, so an empty parent may stay; files must not."""
    with pytest.raises(FailedHookException):
        bake_template(template, tmp_path / "output", project_slug=slug)
    written = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert [name for name in written if not name.endswith(".json")] == []


def test_what_to_do_next_is_said_in_few_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = hook("post_gen_project", RIGHT | {"__dataset": "wine"}).NEXT_STEPS.strip().splitlines()
    assert len(steps) <= 6
    assert "  cd tumour-classifier" in steps


def test_only_the_chosen_sample_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("breast_cancer.csv", "wine.csv", "diabetes.csv", "README.md"):
        (data / name).touch()
    (tmp_path / "pyproject.toml").write_text('dependencies = [\n    "sagegate",\n]\n')
    hook("post_gen_project", RIGHT | {"__dataset": "wine", "_template": str(ROOT)}).main()
    assert f'"sagegate @ {ROOT.as_uri()}",' in (tmp_path / "pyproject.toml").read_text()
    assert sorted(path.name for path in data.iterdir()) == ["README.md", "wine.csv"]


def test_the_removals_name_files_that_the_template_has() -> None:
    optional = hook("post_gen_project", RIGHT | {"__dataset": "wine"}).OPTIONAL_FILES
    assert [name for name in optional if not (ROOT / PROJECT_FOLDER / name).is_file()] == []
