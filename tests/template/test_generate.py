"""What comes out of the template: for every choice, and for answers that try to break it."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from clean_copy import ROOT, tracked_files
from conftest import PROBLEM_TYPES, PROJECT_FOLDER, Bake
from jinja2.exceptions import TemplateSyntaxError

DATASETS = dict(zip(PROBLEM_TYPES, ("breast_cancer", "wine", "diabetes"), strict=True))
LEFTOVER = re.compile(r"(?<!\$)\{\{|\{%|cookiecutter", re.IGNORECASE)

# answers that look dangerous -> what the project must be called in its own metadata
HOSTILE_NAMES = {
    "double-quotes": 'A "quoted" model',
    "single-quotes": "It's a 'model'",
    "triple-quotes": '"""model"""',
    "backslashes": r"C:\new\table \" \u0041",
    "trailing-backslash": "model\\",
    "command": "$(touch pwned) && touch pwned",
    "backticks": "`touch pwned`",
    "variable": "${{ github.token }}".replace("{", "(").replace("}", ")"),
    "emoji": "Tumour \N{MICROSCOPE} \N{FAMILY} classifier",
    "other-script": "肿瘤分类器",
    "markup": "<b>model</b> <!-- # [x](y) | & *",
    "yaml": "model: {a: [b, *c]} # d",
    "long": "m" * 64,
}


def texts(project: Path) -> dict[Path, str]:
    """The text of every file of a baked project."""
    return {path: path.read_text(encoding="utf-8") for path in sorted(project.rglob("*")) if path.is_file()}


def assert_well_formed(project: Path) -> None:
    """Every file parses as what its name says, and nothing of the template is left in it."""
    for path, text in texts(project).items():
        if path.suffix == ".toml":
            tomllib.loads(text)
        elif path.suffix in (".json", ".ipynb"):
            json.loads(text)
        elif path.suffix in (".yaml", ".yml") and "infra" not in path.parts:
            yaml.safe_load(text)
        elif path.suffix == ".py":
            ast.parse(text)
        if path.suffix != ".csv":
            assert not LEFTOVER.search(text), f"{path}: {LEFTOVER.search(text)}"


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_each_problem_type_bakes(baked: Bake, problem_type: str) -> None:
    project = baked(problem_type)
    assert_well_formed(project)
    assert [path.name for path in (project / "data").glob("*.csv")] == [f"{DATASETS[problem_type]}.csv"]


def test_defaults(bake: Bake) -> None:
    project = bake()
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.name == metadata["name"] == "my-model"
    assert (project / "README.md").read_text(encoding="utf-8").startswith("# My Model\n")


def test_the_files_a_user_looks_for_are_there(baked: Bake) -> None:
    expected = [
        ".editorconfig",
        ".gitattributes",
        ".github/CODEOWNERS",
        ".gitignore",
        ".pre-commit-config.yaml",
        "README.md",
        "data",
        "environments/dev.toml",
        "environments/local.toml",
        "environments/prod.toml",
        "environments/staging.toml",
        "mlops.toml",
        "model",
        "notebooks/explore.ipynb",
        "pipeline/definition.json",
        "pipeline/pipeline.py",
        "pyproject.toml",
        "tests",
    ]
    project = baked()
    assert [name for name in expected if not (project / name).exists()] == []
    assert not (project / "uv.lock").exists()


def test_files_copied_without_rendering_are_the_same_bytes(baked: Bake, template: Path) -> None:
    project = baked()
    copied = [
        *project.rglob("*.py"),
        *project.rglob("*.ipynb"),
        *(project / ".github").rglob("*.yml"),
        *(project / "tests").glob("*"),
    ]
    assert copied
    for path in filter(Path.is_file, copied):
        assert path.read_bytes() == (template / PROJECT_FOLDER / path.relative_to(project)).read_bytes(), path


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES.keys())
def test_a_hostile_project_name_is_only_text(bake: Bake, name: str) -> None:
    project = bake(project_name=name)
    assert_well_formed(project)
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["description"].startswith(f"{name}: ")
    assert (project / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert not list(project.parent.rglob("pwned"))


@pytest.mark.parametrize("name", ["{{ 7 * 7 }}", "{{ 'a' ~ 'b' }}"])
def test_cookiecutter_renders_an_option_and_the_result_is_only_text(bake: Bake, name: str) -> None:
    """Options given on a command line or by a program are templates to cookiecutter; typed ones are not."""
    project = bake(project_name=name)
    assert_well_formed(project)
    assert project.name in ("model-49", "ab")


@pytest.mark.parametrize("name", ["{{ unbalanced", "{% if"])
def test_an_option_that_is_no_template_stops_before_anything_is_written(bake: Bake, tmp_path: Path, name: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        bake(project_name=name)
    assert [path for path in (tmp_path / "baked").iterdir() if not path.name.startswith(("cookiecutter-", "."))] == []


def test_a_choice_that_is_not_offered_stops_before_anything_is_written(bake: Bake, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="problem_type"):
        bake(problem_type="clustering")
    assert [path for path in (tmp_path / "baked").iterdir() if not path.name.startswith(("cookiecutter-", "."))] == []


def test_leading_zeros_of_an_account_stay(bake: Bake) -> None:
    project = bake(dev_account_id="000000000001", staging_account_id="012345678901", prod_account_id="000000000003")
    accounts = {
        path.stem: tomllib.loads(path.read_text(encoding="utf-8"))["account_id"]
        for path in (project / "environments").glob("*.toml")
    }
    assert accounts["dev"] == "000000000001"
    assert accounts["staging"] == "012345678901"
    assert accounts["prod"] == "000000000003"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("3D Shapes", "model-3d-shapes"),
        ("\N{MICROSCOPE}", "model"),
        ("Crème brûlée!", "creme-brulee"),
        ("x" * 64, "x" * 32),
    ],
)
def test_the_slug_that_follows_from_a_name_is_a_right_one(bake: Bake, name: str, slug: str) -> None:
    assert bake(project_name=name).name == slug


def test_at_most_eight_questions_each_with_a_prompt() -> None:
    settings = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    questions = [name for name in settings if not name.startswith("_")]
    assert len(questions) <= 8
    assert questions == list(settings["__prompts__"])


def test_jinja_is_rare_and_never_in_code() -> None:
    with_jinja: dict[Path, int] = {}
    lines = 0
    for name in tracked_files(ROOT):
        if name.parts[0] != PROJECT_FOLDER or name.suffix == ".csv" or name.name == "definition.json":
            continue
        content = (ROOT / name).read_text(encoding="utf-8").splitlines()
        lines += len(content)
        if count := sum(bool(LEFTOVER.search(line)) for line in content):
            with_jinja[name] = count
    plain = ("actions", "workflows", "infra", "tests")
    assert not [name for name in with_jinja if name.suffix == ".py" or set(plain) & set(name.parts)]
    assert sum(with_jinja.values()) < 0.03 * lines, with_jinja
