"""Compiling with the SageMaker SDK: the same bytes each time, errors with their line, and what makes a file stale."""

import json
from pathlib import Path

import pytest
from conftest import Bake, RunIn, run_module


def test_compiling_gives_the_committed_bytes(bake: Bake, sdk_env: Path) -> None:
    project = bake(project_name="Another One", aws_region="eu-west-1")
    file = project / "pipeline" / "definition.json"
    committed = file.read_bytes()
    file.unlink()
    done = run_module(sdk_env, project, "sagegate", "compile")
    assert "changed: commit it" in done.stdout
    assert file.read_bytes() == committed
    # Again, with another hash seed and without a network: the proxy does not answer.
    nowhere = "http://127.0.0.1:9"
    env = {"PYTHONHASHSEED": "7", "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "AWS_ENDPOINT_URL": nowhere}
    assert "up to date" in run_module(sdk_env, project, "sagegate", "compile", env=env).stdout
    assert file.read_bytes() == committed


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('ParameterString("ImageUri")', "ParameterSting('ImageUri')", "NameError: name 'ParameterSting' is"),
        ("instance_count=training_count", 'instance_count="two"', "Compute instance_count.int Input should be"),
        ("import annotations\n", "import annotations\nif True\n", "line 15: SyntaxError: expected ':'"),
        ("        confidence,\n", "", "GateConfidence"),
    ],
    ids=["name", "pydantic", "syntax", "reference"],
)
def test_a_compile_error_names_the_line_of_pipeline_py(
    bake: Bake, sdk_env: Path, old: str, new: str, words: str
) -> None:
    project = bake()
    script = project / "pipeline" / "pipeline.py"
    before = (project / "pipeline" / "definition.json").read_bytes()
    assert old in script.read_text()
    script.write_text(script.read_text().replace(old, new))
    done = run_module(sdk_env, project, "sagegate", "compile", check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("sagegate: pipeline/pipeline.py") and words in done.stderr, done.stderr
    assert (project / "pipeline" / "definition.json").read_bytes() == before
    if "Name" in words:
        more = run_module(sdk_env, project, "sagegate", "compile", "--traceback", check=False).stderr
        assert "Traceback" in more and more.splitlines()[-1] == done.stderr.strip()


def test_compiling_takes_new_hyperparameters_and_types(bake: Bake, run_in: RunIn, sdk_env: Path) -> None:
    """A whole number for a float is an error until then, because usually 2.0 was meant."""
    project = bake()
    settings = project / "mlops.toml"
    original = settings.read_text()
    settings.write_text(original.replace("min_child_weight = 1.0", "min_child_weight = 2"))
    for command in ("check", "plan", "run"):
        done = run_in(project, "sagegate", command, check=False)
        assert done.returncode == 2 and "hyperparameters.min_child_weight: the pipeline has a Float" in done.stderr
        assert "write 2.0, or run `sagegate compile`" in done.stderr and len(done.stderr.splitlines()) == 1
    estimator = project / "model" / "estimator.py"
    taken = estimator.read_text().replace("    seed: int = 42,\n", "    gamma: float = 0.0,\n    note: str = '',\n")
    estimator.write_text(taken)
    settings.write_text(original.replace("\nseed = 42\n", "\ngamma = 0.5\nnote = 'short'\n"))
    stale = run_in(project, "sagegate", "check", check=False)
    assert stale.returncode == 1 and "stale" in stale.stderr
    settings.write_text(settings.read_text().replace("min_child_weight = 1.0", "min_child_weight = 2"))
    run_module(sdk_env, project, "sagegate", "compile")
    run_in(project, "sagegate", "check")
    compiled = json.loads((project / "pipeline" / "definition.json").read_text())
    types = {p["Name"]: p["Type"] for p in compiled["Parameters"]}
    assert "gamma" in types and "seed" not in types and types["min_child_weight"] == "Integer"
    settings.write_text(settings.read_text().replace("'short'", f"'{'x' * 2501}'"))
    assert "mlops.toml: step Train: HyperP" in (said := run_in(project, "sagegate", "check", check=False).stderr)
    assert "note: 2501" in said


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "environments/dev.toml",
            'instance_type = "ml.m5.large"\ninstance_count = 1\nvolume_size_in_gb = 30',
            'instance_type = "ml.m5.lage"\ninstance_count = 1\nvolume_size_in_gb = 30',
            [
                "environments/dev.toml: step ",
                "InstanceType",
                "has no 'ml.m5.lage' there; it has ml.m5.large",
                "parameter",
            ],
        ),
        (
            "environments/prod.toml",
            'mode = "real-time" # or "serverless", "asynchronous", "batch"\ninstance_type = "ml.m5.large"',
            'mode = "batch"\ninstance_type = "ml.t2.medium"',
            ["environments/prod.toml: endpoint.instance_type", "has no 'ml.t2.medium'"],
        ),
    ],
    ids=["instance-type", "batch"],
)
def test_check_holds_the_settings_to_the_limits_of_sagemaker(
    bake: Bake, run_in: RunIn, file: str, old: str, new: str, words: list[str]
) -> None:
    project = bake()
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    done = run_in(project, "sagegate", "check", check=False)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
