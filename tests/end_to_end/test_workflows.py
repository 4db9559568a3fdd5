"""Runs of the generated project's workflows: results of jobs, their summaries, and what must never happen."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from clean_copy import ROOT
from conftest import PROJECT_FOLDER, Once, bake_template, find_uv, run_module, without_shell_settings
from fakes.docker import install
from fakes.github_routes import subject_prefix
from fakes.osv import Osv
from fakes.remote import client
from workflow_lab import REPOSITORY, Repository, jobs_of, workflow_files

if TYPE_CHECKING:
    from fakes.remote import Remote

ACCOUNTS = {"dev": "111111111111", "staging": "222222222222", "prod": "333333333333"}
COVERED: set[tuple[str, str]] = set()
HOSTILE = "$(touch pwned)\"; touch 'pwned' #`touch pwned`\n${{ github.token }}\n::set-output name=x::y | **bold** <b>"
HOSTILE_BRANCH = "$(touch${IFS}pwned);\"'`touch${IFS}pwned`"
WORSE = ("num_round = 200", "num_round = 1")


def covers(workflow: str, *jobs: str) -> Callable[[Any], Any]:
    """Mark a test that runs these jobs to success at least once; the fixture checks that it did."""
    COVERED.update((workflow, job) for job in jobs)
    return pytest.mark.covers(workflow, jobs)


@pytest.fixture(scope="session")
def locked(template: Path, once: Once) -> Path:
    """A generated project with account ids, a vendored sagegate and the uv.lock that a user commits. Read-only."""
    return once("locked", lambda folder: make_locked(template, folder)) / "my-model"


def make_locked(template: Path, folder: Path) -> None:
    """Make the project of `locked` in a folder."""
    project = bake_template(template, folder, github_repository=REPOSITORY)
    environment = without_shell_settings()
    build = [find_uv(), "build", "--quiet", "--wheel", "--out-dir", str(project / "vendor"), str(template)]
    subprocess.run(build, env=environment, check=True)
    (project / "vendor" / ".gitignore").unlink(missing_ok=True)
    (wheel,) = (project / "vendor").glob("*.whl")
    settings = project / "pyproject.toml"
    text = re.sub('"sagegate @ .*"', f'"sagegate=={wheel.name.split("-")[1]}"', settings.read_text(encoding="utf-8"))
    source = f'[tool.uv.sources]\nsagegate = {{ path = "vendor/{wheel.name}" }}\n'
    settings.write_text(f"{text}\n{source}", encoding="utf-8")
    subprocess.run([find_uv(), "lock", "--quiet"], cwd=project, env=environment, check=True)
    for name, account in ACCOUNTS.items():
        file = project / "environments" / f"{name}.toml"
        text = re.sub('account_id = ".*"', f'account_id = "{account}"', file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")


def checked(request: pytest.FixtureRequest, made: Repository) -> Iterator[Repository]:
    """Yield the repository, then check that the test ran the jobs it is marked with."""
    try:
        yield made
        for mark in request.node.iter_markers("covers"):
            workflow, jobs = mark.args
            succeeded = {job for run in made.history if run.workflow == workflow for job in run.succeeded}
            assert set(jobs) <= succeeded, f"{workflow}: {set(jobs) - succeeded} did not succeed"
    finally:
        made.close()


@pytest.fixture
def repository(request: pytest.FixtureRequest, locked: Path, project_env: Path, tmp_path: Path) -> Iterator[Repository]:
    """The project on GitHub with two commits on main, without AWS."""
    made = Repository(locked, tmp_path / "lab", project_env.parent.parent)
    made.commit("The project")
    made.commit(HOSTILE)
    yield from checked(request, made)


@pytest.fixture
def with_aws(
    request: pytest.FixtureRequest, locked: Path, project_env: Path, tmp_path: Path, fake_aws: Remote
) -> Iterator[Repository]:
    """The project on GitHub, with a platform stack in dev's account that trusts GitHub's former subjects."""
    admin = fake_aws.environment(ACCOUNTS["dev"])
    command = ("bootstrap", "dev", "--yes", "--subject-prefix", subject_prefix(REPOSITORY, is_immutable=False))
    run_module(project_env, locked, "sagegate", *command, env=admin)
    made = Repository(locked, tmp_path / "lab", project_env.parent.parent, admin)
    made.github.actions.has_immutable_subject = False
    made.commit("The project")
    yield from checked(request, made)


def assert_nothing_was_injected(repository: Repository) -> None:
    assert not list(repository.folder.rglob("pwned")), "text from an event was run as a command"


# --- ci ----------------------------------------------------------------------------------------------------------
@covers("ci.yml", "checks", "pipeline", "ci")
def test_ci_is_green_on_what_is_generated(repository: Repository) -> None:
    assert repository.triggered(["README.md"]) == ["ci.yml"]
    run = repository.run("ci.yml", repository.push())
    assert run.jobs == {"checks": "success", "pipeline": "success", "ci": "success"}, run.output
    assert "✅ local: model 1 passed the gate" in run.summary and "| **`auc`** | 0.9" in run.summary
    # The project's tests train as well, and must not write to the job's summary.
    assert "gate" not in run.summaries["checks"]
    assert list(repository.artifacts.glob("run/.mlops/executions/*/logs/Train.log"))
    for name in ("evaluation.json", "report.html"):
        assert list(repository.artifacts.glob(f"run/.mlops/s3/**/{name}"))
    assert_nothing_was_injected(repository)


def test_ci_is_red_with_the_numbers_on_a_hostile_fork(repository: Repository) -> None:
    """A pull request from a fork worsens the model, breaks a lint rule, and has texts that look like commands."""
    repository.git("checkout", "-q", "-b", "change")
    repository.edit("mlops.toml", *WORSE)
    (repository.work / "tests" / "unused.py").write_text("import os\n\nl: int = 'many'\n")
    for name in ("data", "model", "pipeline", "train"):  # few tests are enough here
        (repository.work / "tests" / f"test_{name}.py").unlink()
    repository.commit(HOSTILE, HOSTILE_BRANCH)
    event = repository.pull_request(HOSTILE_BRANCH, HOSTILE, head="mallory")
    run = repository.run("ci.yml", event, actor="mallory")
    assert run.jobs == {"checks": "failure", "pipeline": "failure", "ci": "failure"}, run.output
    failed = run.failed_steps()
    assert ("checks", "Lint, types, templates, workflows and secrets") in failed
    assert ("checks", "Tests") in {(job, step) for job, step, _ in run.steps}, "the tests run after a failed check"
    assert "-import os" in run.output, "the log has the diff of what the hooks can fix"
    assert "ruff (E741)" in run.output, "what they cannot fix is an annotation of the pull request"
    for hook in ("ruff check", "ruff format", "mypy"):
        assert re.search(rf"^{hook}\.+\S*Failed", run.output, re.MULTILINE), run.output
    assert ("pipeline", "Train, evaluate and gate locally") in failed
    page = run.summaries["pipeline"]
    assert "❌ local: the gate rejected the candidate" in page
    assert re.search(r"Candidate rejected: auc 0\.\d+ .*0\.95", page), page
    # The plan against the base branch shows the change.
    assert "num_round" in page and "`200`" in page and "`1`" in page, page
    # No job requested an identity token or used GitHub's API.
    assert {path for _, path in repository.github.requests} <= {"/fake/job", "/fake/token"}
    assert_nothing_was_injected(repository)


def test_a_definition_edited_by_hand_fails_ci(repository: Repository, sdk_env: Path) -> None:
    repository.edit("pipeline/definition.json", '"Type": "Integer"', '"Type": "Float"')
    repository.commit("Edit the definition")
    repository.environment = sdk_env.parent.parent
    run = repository.run("ci.yml", repository.push(), job="pipeline")
    assert run.failed_steps()[0] == ("pipeline", "Compile"), run.output
    assert "is not what pipeline.py compiles to" in run.output


# --- train and promote -------------------------------------------------------------------------------------------
@covers("train.yml", "train", "promote")
@covers("promote.yml", "propose")
def test_training_ends_in_a_pull_request(with_aws: Repository) -> None:
    repository = with_aws
    repository.edit("mlops.toml", "max_depth = 4", "max_depth = 5")
    repository.commit(HOSTILE)
    assert repository.triggered(["mlops.toml"]) == ["ci.yml", "train.yml"]
    run = repository.run("train.yml", repository.push())
    assert run.jobs == {"train": "success", "promote": "success"}, run.output
    assert "✅ dev: model 1 passed the gate" in run.summaries["train"]
    assert "https://github.com/acme/my-model/pull/1" in run.summaries["promote"]
    (pull,) = repository.github.pulls.all("open")
    (report,) = repository.artifacts.glob("dev-*.html/.mlops/reports/*.html")
    assert "Passed by the gate" in report.read_text(encoding="utf-8")
    kept = "https://github.com/acme/my-model/actions/runs/1/artifacts/1"
    assert f"[The report]({kept})" in run.summaries["train"] and f"[`the page`]({kept})" in pull["body"]
    assert "`sagegate report 1 --env dev`" in pull["body"]
    assert pull["title"].startswith("Promote model 1 to staging (auc 0.9")
    assert repository.github.bare.content("promote/staging", "deployments/staging.json")

    # The scheduled run finds nothing new. It uses the GitHub App's token, with two permissions.
    app = ("--var", "APP_CLIENT_ID=Iv1.app", "--secret", "APP_PRIVATE_KEY=fake-private-key")
    again = repository.run("promote.yml", ("schedule", {}), *app)
    assert again.jobs == {"propose": "success"} and "unchanged" in again.summary, again.output
    assert "promote prod" not in again.summary, "nothing is deployed to staging yet"
    granted = repository.github.tokens["fake-app-token"]
    assert granted == {"contents": "write", "pull-requests": "write"}

    # Started by hand with parameters that worsen the model: the run fails, with the numbers in its summary.
    inputs = {"parameters": "num_round=1 max_depth=1", "reason": HOSTILE}
    worse = repository.run("train.yml", ("workflow_dispatch", {"inputs": inputs}))
    assert worse.jobs["train"] == "failure" and worse.jobs.get("promote") in (None, "skipped"), worse.output
    assert "❌ dev: the gate rejected the candidate" in worse.summary
    assert re.search(r"auc 0\.\d+ .*0\.95", worse.summary) and "[The report](" in worse.summary
    assert len(repository.github.pulls.all("all")) == 1
    wrong = repository.run("train.yml", ("workflow_dispatch", {"inputs": {"parameters": "$(touch pwned)=1"}}))
    assert wrong.jobs["train"] == "failure" and "write NAME=VALUE" in wrong.output
    assert_nothing_was_injected(repository)


def test_wrong_requests_for_credentials_fail(with_aws: Repository) -> None:
    """The fakes reject what AWS and GitHub reject, so a workflow with a wrong request cannot pass these tests."""
    file = ".github/workflows/train.yml"
    whole = (with_aws.work / file).read_text(encoding="utf-8")
    for old, new, says in (
        ("environment: dev #", "environment: staging #", "Not authorized to perform"),
        ("      id-token: write # get AWS credentials by OIDC\n", "", "the job has no permission id-token"),
        ('"21600"', '"50000"', "MaxSessionDuration"),
    ):
        with_aws.edit(file, old, new)
        with_aws.commit("Break it")
        run = with_aws.run("train.yml", with_aws.push(), job="train")
        assert run.jobs["train"] == "failure" and says in run.output, run.output
        (with_aws.work / file).write_text(whole, encoding="utf-8")

    # The same job in a workflow that the roles do not trust, and in the right one on another branch.
    added = with_aws.work / ".github" / "workflows" / "added.yml"
    added.write_text(whole.replace("name: train\n", "name: added\n", 1), encoding="utf-8")
    with_aws.commit("Add a workflow")
    run = with_aws.run("added.yml", with_aws.push(), job="train")
    assert run.jobs["train"] == "failure" and "Not authorized to perform" in run.output, run.output
    name, event = with_aws.push()
    with_aws.commit("On a branch", branch="feature")
    run = with_aws.run("train.yml", (name, event | {"ref": "refs/heads/feature"}), job="train")
    assert run.jobs["train"] == "failure" and "Not authorized to perform" in run.output, run.output


@covers("image.yml", "image")
def test_an_own_image_is_built_and_proposed(
    with_aws: Repository, project_env: Path, fake_aws: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/how-to/own-image.md, as a reader follows it."""
    repository, admin = with_aws, fake_aws.environment(ACCOUNTS["dev"])
    page = (ROOT / "docs" / "how-to" / "own-image.md").read_text(encoding="utf-8")
    repository.edit("environments/dev.toml", "# [platform]", "[platform]")
    repository.edit("environments/dev.toml", "# image_repository", "image_repository")
    run_module(project_env, repository.work, "sagegate", "bootstrap", "dev", "--yes", env=admin)
    env = without_shell_settings({"UV_NO_SYNC": "1", "PATH": f"{Path(find_uv()).parent}:{os.environ['PATH']}"})
    commands = re.findall(r"(?ms)^ *```sh\n(.*?)^ *```$", page)
    for command in commands:
        subprocess.run(["bash", "-ec", textwrap.dedent(command)], cwd=repository.work, env=env, check=True)
    assert len(commands) == 2 and not re.search(
        r"https?://", (repository.work / "image" / "requirements.txt").read_text()
    )

    calls = install(tmp_path / "docker")
    monkeypatch.setenv("PATH", f"{tmp_path / 'docker'}:{os.environ['PATH']}")
    before = repository.git("rev-parse", "HEAD")
    repository.commit("Add LightGBM to the image")
    assert repository.triggered(repository.changed(before)) == ["ci.yml", "image.yml", "train.yml"]
    run = repository.run("image.yml", repository.push())
    assert run.jobs == {"image": "success"} and "https://github.com/acme/my-model/pull/1" in run.summary, run.output
    assert [json.loads(call)[0] for call in calls.read_text().splitlines()] == ["login", "login", "buildx"]
    (image,) = client("ecr", admin).describe_images(repositoryName="my-model")["imageDetails"]
    (pull,) = repository.github.pulls.all("open")
    assert pull["title"] == f"Use container image {image['imageDigest'][:19]}" and image["imageDigest"] in pull["body"]
    assert repository.changed("HEAD^1") == repository.changed(before)
    repository.merge(pull["number"])
    assert repository.triggered(repository.changed("HEAD^1")) == ["ci.yml", "train.yml"]
    checked = run_module(project_env, repository.work, "sagegate", "check")
    assert "image: compared with image/requirements.txt" in checked.stdout and checked.stderr == ""


def test_without_an_account_nothing_trains_and_nothing_is_red(repository: Repository) -> None:
    for workflow, event in (("train.yml", repository.push()), ("promote.yml", ("schedule", {}))):
        run = repository.run(workflow, event)
        assert run.exit_code == 0 and run.succeeded == set() and run.failed_steps() == [], run.output


def test_the_first_push_deploys_nothing(repository: Repository) -> None:
    """It adds deployments/, but no version to deploy."""
    assert "deploy.yml" in repository.triggered(["deployments/README.md"])
    run = repository.run("deploy.yml", repository.push("0" * 40))
    assert run.succeeded == {"changed"} and set(run.jobs.values()) <= {"success", "skipped"}, run.output


# --- maintenance -------------------------------------------------------------------------------------------------
@covers("maintenance.yml", "dependencies", "template")
def test_maintenance(repository: Repository) -> None:
    with Osv() as osv:
        repository.extra["FAKE_OSV"] = osv.url
        run = repository.run("maintenance.yml", ("schedule", {}))
        assert run.jobs == {"template": "success", "dependencies": "success"}, run.output
        assert "cruft link" in run.summaries["template"]
        assert {"numpy", "boto3"} <= set(osv.asked)
        osv.known["numpy"] = "GHSA-plan-ted0-0000"
        found = repository.run("maintenance.yml", ("schedule", {}), job="dependencies")
        assert found.jobs["dependencies"] == "failure" and "GHSA-plan-ted0-0000" in found.output


def test_a_newer_template_fails_maintenance(repository: Repository, template: Path, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    shutil.copytree(template, upstream)
    repository.git("init", "-q", "--initial-branch=main", cwd=upstream)
    repository.git("add", "-A", cwd=upstream)
    repository.git("commit", "-q", "-m", "The template", cwd=upstream)
    commit = repository.git("rev-parse", "HEAD", cwd=upstream)
    answers = {"github_repository": REPOSITORY, "_template": str(upstream)}
    known = {"template": str(upstream), "commit": commit, "checkout": None, "directory": None}
    file = repository.work / ".cruft.json"
    file.write_text(json.dumps(known | {"context": {"cookiecutter": answers}}), encoding="utf-8")
    repository.commit("Follow the template")
    run = repository.run("maintenance.yml", ("schedule", {}), job="template")
    assert run.jobs == {"template": "success"} and ("template", "Compare with the template", "success") in run.steps

    schema = upstream / "{{cookiecutter.project_slug}}" / "model" / "schema.toml"
    schema.write_text(f"# newer\n{schema.read_text(encoding='utf-8')}", encoding="utf-8")
    repository.git("commit", "-q", "-a", "-m", "Newer", cwd=upstream)
    run = repository.run("maintenance.yml", ("schedule", {}), job="template")
    assert run.jobs == {"template": "failure"} and "cruft update" in run.output


def test_every_job_runs_in_a_test(locked: Path) -> None:
    from test_journey import JOBS as journeys

    jobs = {(name, job) for name, workflow in workflow_files(locked).items() for job in workflow["jobs"]}
    assert jobs - COVERED - journeys == set(), "jobs that no test runs"
    assert (COVERED | journeys) - jobs == set(), "jobs that do not exist"


# --- rules for all of them ---------------------------------------------------------------------------------------
def test_credentials_only_in_jobs_with_an_environment(locked: Path) -> None:
    for name, workflow in workflow_files(locked).items():
        for job, facts in jobs_of(workflow).items():
            text = json.dumps(workflow["jobs"][job])
            steps = [step.get("with", {}) for step in workflow["jobs"][job]["steps"]]
            environments = {inputs["environment"] for inputs in steps if "environment" in inputs}
            assert environments <= {facts["environment"]}, f"{name}: {job} gets another environment's credentials"
            has_credentials = environments or "id-token" in facts["permissions"] or "secrets." in text
            assert facts["environment"] or not has_credentials, f"{name}: {job}"
            assert not (has_credentials and any("cache" in inputs for inputs in steps)), f"{name}: {job}: shared cache"
            assert "configure-aws-credentials" not in text, f"{name}: {job}: use the action setup"
    ci = workflow_files(locked)["ci.yml"]
    assert "secrets." not in json.dumps(ci) and "pull_request_target" not in ci["on"]
    assert all(set(f["permissions"].values()) <= {"read"} for f in jobs_of(ci).values())


def test_workflows_are_thin_and_bounded(locked: Path) -> None:
    for name, workflow in workflow_files(locked).items():
        assert workflow["permissions"] == {} and "concurrency" in workflow, name
        for job, body in workflow["jobs"].items():
            assert body["timeout-minutes"] <= 360, f"{name}: {job}"
            for step in body["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False, f"{name}: {job}"
        text = (locked / ".github" / "workflows" / name).read_text(encoding="utf-8")
        for line in text.splitlines():
            if re.match(r"      [a-z-]+: (read|write)\b", line):
                assert " # " in line, f"{name}: {line}: the reason is missing"


def test_no_expression_is_expanded_in_a_command(locked: Path) -> None:
    """An expression in `run:` would be expanded before the shell reads it, so its text could be a command."""
    action = yaml.safe_load((locked / ".github" / "actions" / "setup" / "action.yml").read_text(encoding="utf-8"))
    jobs = [job["steps"] for workflow in workflow_files(locked).values() for job in workflow["jobs"].values()]
    commands = [step.get("run", "") for steps in [*jobs, action["runs"]["steps"]] for step in steps]
    assert len(list(filter(None, commands))) > 10
    assert [command for command in commands if "${{" in command] == []


def test_uv_has_one_version() -> None:
    texts = [(ROOT / "Makefile").read_text(encoding="utf-8")]
    texts += [file.read_text(encoding="utf-8") for file in (ROOT / PROJECT_FOLDER / ".github").rglob("*.yml")]
    versions = [version for text in texts for version in re.findall(r'(?:UV_VERSION := | version: ")([\d.]+)', text)]
    assert len(versions) == 2 and len(set(versions)) == 1
