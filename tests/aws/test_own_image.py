"""The versions of the container image, and the project's own image in place of SageMaker's."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Bake, RunIn
from fakes.docker import OCI, install
from fakes.github import FakeGitHub
from setup_lab import DEV, PROD, STAGING, SetupLab

from sagegate.config import ImageSection, parse_settings
from sagegate.errors import SagegateError
from sagegate.images import source_digest
from sagegate.own_image import propose_image, with_image
from sagegate.repository.github import GitHub

if TYPE_CHECKING:
    from fakes.remote import Remote

VENDOR = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
DOCKERFILE = "ARG BASE\nFROM $BASE\nCOPY requirements.txt /opt/\nRUN pip install -r /opt/requirements.txt\n"
ZEROS, IMAGE = "0" * 64, f"\n[image]\ndigest = 'sha256:{'1' * 64}'\nsource = '{'0' * 64}'\n"
LOCK = '[[package]]\nname = "joblib"\nversion = "1.6.0"\n\n[[package]]\nname = "numpy"\nversion = "2.1.0"\n'


def add_image(project: Path, requirements: str = "lightgbm==4.6.0 \\\n    --hash=sha256:0\n") -> None:
    """Write the files of an image."""
    (project / "image").mkdir()
    (project / "image" / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    (project / "image" / "requirements.txt").write_text(requirements, encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "lock", "says"),
    [
        (
            '"pandas==2.2.3"',
            '"pandas==2.2.2"',
            "",
            "pyproject.toml: pandas 2.2.2, but sagemaker-xgboost:3.2-0 has 2.2.3",
        ),
        ('"numpy==2.1.0"', '"NumPy"', LOCK.replace("2.1.0", "2.3.0"), "uv.lock: numpy 2.3.0, but sagemaker-xgboost"),
    ],
)
def test_check_names_versions_that_are_not_the_images(
    own_project: Path, run_in: RunIn, old: str, new: str, lock: str, says: str
) -> None:
    file = own_project / "pyproject.toml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    (own_project / "uv.lock").write_text(lock or LOCK, encoding="utf-8")
    done = run_in(own_project, "sagegate", "check", check=False)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 2, done.stderr
    assert "versions that differ from the image's: 1" in done.stderr


def test_check_knows_what_is_installed_and_what_an_own_image_was_made_from(
    own_project: Path, run_in: RunIn, tmp_path: Path
) -> None:
    file = own_project / "pyproject.toml"
    file.write_text(file.read_text("utf-8").replace('"numpy==', '"lightgbm==4.6.0",\n    "numpy=='), encoding="utf-8")
    missing = run_in(own_project, "sagegate", "check")
    assert "warning: pyproject.toml: lightgbm may be missing in jobs and endpoints" in missing.stderr
    file.write_text(file.read_text("utf-8").replace("lightgbm==4.6.0", "mlflow"), encoding="utf-8")
    assert "mlflow may be missing" in run_in(own_project, "sagegate", "check").stderr
    with (own_project / "environments" / "local.toml").open("a", encoding="utf-8") as local:
        local.write('\n[tracking]\nmlflow = "sqlite:///mlflow.db"\n')
    assert run_in(own_project, "sagegate", "check").stderr == "", "sagegate uses it, no job does"
    file.write_text(file.read_text("utf-8").replace('"mlflow"', '"lightgbm==4.6.0"'), encoding="utf-8")

    add_image(own_project, "joblib==1.5.3 \\\n    --hash=sha256:0\nlightgbm==4.5.0\n")
    (own_project / "uv.lock").write_text(LOCK, encoding="utf-8")
    (tmp_path / "lib" / "pandas-2.2.2.dist-info").mkdir(parents=True)
    (tmp_path / "lib" / "pandas-2.2.2.dist-info" / "METADATA").write_text("Name: pandas\nVersion: 2.2.2\n")
    path = {"PYTHONPATH": f"{tmp_path / 'lib'}:{Path(__file__).parents[2] / 'src'}"}
    done = run_in(own_project, "sagegate", "check", check=False, env=path)
    assert done.returncode == 1, done.stdout
    warning, *lines, _ = done.stderr.splitlines()
    assert "[image] is missing, but there is image/Dockerfile" in warning
    assert [line.partition(": run ")[0].partition(": install")[0] for line in lines] == [
        "uv.lock: joblib 1.6.0, but image/requirements.txt has 1.5.3",
        "pyproject.toml: lightgbm 4.6.0, but image/requirements.txt has 4.5.0",
        "installed: pandas 2.2.2, but sagemaker-xgboost:3.2-0 has 2.2.3",
    ]


@pytest.fixture
def lab(baked: Bake, tmp_path: Path, fake_aws: "Remote", run_in: RunIn, project_env: Path) -> SetupLab:
    made = SetupLab(baked(), tmp_path, fake_aws, run_in, project_env)
    made.accounts(DEV, STAGING, PROD)
    return made


def test_an_image_is_built_once_and_pinned(lab: SetupLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "image/Dockerfile is missing" in lab.sagegate("image", code=1)
    add_image(lab.project)
    assert "no ECR repository my-model: write image_repository = true" in lab.sagegate("image", code=1)
    lab.add("environments/dev.toml", "\n[platform]\nimage_repository = true\n")
    lab.sagegate("bootstrap", "dev", "--yes")
    assert lab.parameters()["CreateImageRepository"] == "true" and "my-model-github-image" in lab.roles()
    assert "role my-model-github-image trusts" in lab.sagegate("doctor", "dev", code=1)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        assert "docker is not installed" in lab.sagegate("image", code=1)

    calls = install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert "[image] is missing, but there is image/Dockerfile" in lab.sagegate("run", "--env", "dev", code=1)
    (lab.project / "image" / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    before = (lab.project / "mlops.toml").read_bytes()
    assert "docker buildx failed with exit code 1" in lab.sagegate("image", code=1)
    assert (lab.project / "mlops.toml").read_bytes() == before
    (lab.project / "image" / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    assert "mlops.toml has image sha256:" in lab.sagegate("image")
    (image,) = lab.client("ecr").describe_images(repositoryName="my-model")["imageDetails"]
    pinned = f"{DEV}.dkr.ecr.us-east-1.amazonaws.com/my-model"
    built = [json.loads(line) for line in calls.read_text(encoding="utf-8").splitlines()]
    assert [call[-1] for call in built[-3:]] == [VENDOR.partition("/")[0], pinned.partition("/")[0], "image"]
    assert f"--build-arg=BASE={VENDOR}" in built[-1] and f"--tag={pinned}:{image['imageTags'][0]}" in built[-1]

    lab.sagegate("image")
    assert len(calls.read_text(encoding="utf-8").splitlines()) == len(built), "the same files are not built again"
    assert (lab.project / "mlops.toml").read_text(encoding="utf-8").count("\n[image]") == 1
    checked = lab.sagegate("check")
    assert "image: compared with image/requirements.txt" in checked and "[image] was made" not in checked
    lab.sagegate("run", "--env", "dev", "--no-wait")
    definition = lab.client("sagemaker").describe_pipeline(PipelineName="my-model")["PipelineDefinition"]
    values = {entry["Name"]: entry.get("DefaultValue") for entry in json.loads(definition)["Parameters"]}
    assert values["ImageUri"] == f"{pinned}@{image['imageDigest']}"

    (lab.project / "image" / "requirements.txt").write_text("lightgbm==4.5.0\n", encoding="utf-8")
    assert "[image] was made from other files than image/" in lab.sagegate("run", "--env", "dev", code=1)
    assert "warning: mlops.toml: [image] was made from other files" in lab.sagegate("check")
    lab.sagegate("image")
    assert len(lab.client("ecr").describe_images(repositoryName="my-model")["imageDetails"]) == 2
    text = (lab.project / "mlops.toml").read_text(encoding="utf-8")
    assert text.count("\n[image]") == 1 and image["imageDigest"] not in text


def test_an_image_that_sagemaker_refuses_is_not_pinned(lab: SetupLab) -> None:
    add_image(lab.project)
    ecr = lab.client("ecr")
    ecr.create_repository(repositoryName="my-model")
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI, "layers": [{"digest": f"sha256:{ZEROS}"}]})
    ecr.put_image(repositoryName="my-model", imageTag=source_digest(lab.project), imageManifest=manifest)
    said = lab.sagegate("image", code=1)
    assert f"SageMaker refuses an image with a manifest {OCI}" in said and "batch-delete-image" in said


def test_an_image_needs_its_files(own_project: Path, run_in: RunIn) -> None:
    file = own_project / "mlops.toml"
    file.write_text(file.read_text(encoding="utf-8") + IMAGE, encoding="utf-8")
    assert "image/Dockerfile is missing: restore it from git" in run_in(own_project, "sagegate", "check").stderr


def test_the_pull_request_is_opened_once_and_updated(baked: Bake, tmp_path: Path) -> None:
    first, second = (ImageSection(f"sha256:{n * 64}", n * 64) for n in "12")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    with FakeGitHub(bare, "org/repo") as github:
        client = GitHub(github.url, github.token, "org/repo")
        tree = github.bare.git("hash-object", "-w", "-t", "tree", "/dev/null")
        github.bare.git("update-ref", "refs/heads/main", github.bare.git("commit-tree", tree, "-m", "first"))
        with pytest.raises(SagegateError, match=r"models/mlops.toml is missing on the default branch of org/repo"):
            propose_image(client, "models/", first)
        text = (baked() / "mlops.toml").read_text(encoding="utf-8")
        main = client.commit_file(str(client.branch_commit("main")), "models/mlops.toml", text, "settings")
        github.bare.git("update-ref", "refs/heads/main", main)
        for section, title in ((first, "1" * 12), (first, "1" * 12), (second, "2" * 12)):
            propose_image(client, "models/", section)
            (pull,) = github.pulls.all("all")
            assert pull["title"] == f"Use container image sha256:{title}"
        proposed = str(client.read_file("image", "models/mlops.toml"))
        assert parse_settings(proposed).image == second and proposed.startswith(text.rstrip())
        assert github.bare.git("rev-list", "--count", "main..image") == "1"
        github.pulls.merge(pull["number"])
        propose_image(client, "models/", second)
        assert len(github.pulls.all("all")) == 1
    with pytest.raises(SagegateError, match="is not in its usual form: write it by hand"):
        with_image(f"image = {{ digest = '{first.digest}', source = '{first.source}' }}\n{text}", second)


def test_the_settings_want_digests(own_project: Path, run_in: RunIn) -> None:
    for old, new, says in (
        ("sha256:1", "sha-256:1", "mlops.toml: image.digest: expected text like `sha256:"),
        ("source", "tag", "mlops.toml: image.tag: no such key"),
        ("'0", "'z0", "mlops.toml: image.source: "),
    ):
        with pytest.raises(SagegateError, match=re.escape(says)):
            parse_settings((own_project / "mlops.toml").read_text(encoding="utf-8") + IMAGE.replace(old, new))
    staging = own_project / "environments" / "staging.toml"
    staging.write_text(
        staging.read_text(encoding="utf-8") + "\n[platform]\nimage_repository = true\n", encoding="utf-8"
    )
    done = run_in(own_project, "sagegate", "check", check=False)
    assert "staging.toml: platform.image_repository: pipelines run in dev" in done.stderr
