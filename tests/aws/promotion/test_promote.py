"""Promotion through the CLI, as a workflow runs it."""

import json
import re

import pytest
from conftest import Bake, RunIn
from fakes.github import Failure
from markdown_it import MarkdownIt
from places import execution

from promotion.lab import Lab, git


def test_the_first_promotion_opens_a_pull_request(lab: Lab) -> None:
    main = git(lab.bare, "rev-parse", "main")
    said = lab.promote().stdout
    (pull,) = lab.open()
    assert pull["html_url"] in said and "created" in said
    assert (pull["head"]["ref"], pull["base"]["ref"]) == ("promote/staging", "main")
    assert pull["title"].startswith("Promote model 3 to staging (auc 0.")
    assert git(lab.bare, "diff", "--name-status", "main...promote/staging") == "A\tdeployments/staging.json"
    pin = lab.pin("promote/staging")
    assert (pin["model"]["version"], pin["replaces"], pin["promoted_by"]) == (3, None, "ada")
    assert pin["evidence"]["gate"]["passed"] is True
    assert pin["evidence"]["data"]["rows"].keys() == {"train", "validation", "test"}
    assert pin["evidence"]["code"]["commit"] == main
    assert git(lab.bare, "log", "-1", "--format=%an", "promote/staging") == "github-actions[bot]"
    assert git(lab.bare, "rev-parse", "main", "promote/staging^") == f"{main}\n{main}"
    for what in (
        pin["model"]["artifact"]["sha256"],
        pin["evidence"]["data"]["version"],
        main[:12],
        "sagegate rollback",
        "until somebody with write access approves the runs",
    ):
        assert what in pull["body"]


def test_the_same_candidate_again_changes_nothing(lab: Lab) -> None:
    lab.promote()
    (before,) = [dict(pull) for pull in lab.open()]
    lab.github.requests.clear()
    again = lab.promote()
    assert "unchanged" in again.stdout
    assert [dict(pull) for pull in lab.open()] == [before]
    assert {method for method, _ in lab.github.requests} == {"GET"}


def test_a_newer_candidate_updates_the_pull_request(lab: Lab) -> None:
    lab.promote("staging", "--model", "2")
    number = lab.open()[0]["number"]
    assert "updated" in lab.promote().stdout
    (pull,) = lab.open()
    assert pull["number"] == number and "Promote model 3" in pull["title"]
    assert lab.version() == 3
    assert git(lab.bare, "rev-list", "--count", "main..promote/staging") == "1"
    assert "model 2 for" not in pull["body"]


def test_no_newer_candidate_ends_without_a_pull_request(lab: Lab) -> None:
    lab.promote()
    lab.merge()
    said = lab.promote().stdout
    assert "model 3 is pinned and no newer one has passed the gate" in said
    assert "staging pins model 3 already" in lab.promote("staging", "--model", "3").stdout
    assert lab.open() == [] and len(lab.github.pulls.pulls) == 1


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_the_next_promotion_shows_the_model_that_it_replaces(lab: Lab, method: str) -> None:
    lab.promote("staging", "--model", "1")
    lab.merge(method)
    lab.promote()
    assert lab.pin("promote/staging")["replaces"] == 1
    body = lab.open()[0]["body"]
    assert "deployed v1" in body
    assert re.search(r"✅ better|❌ worse|same", body)


def test_a_rejected_model_is_an_error_and_is_skipped_by_default(lab: Lab) -> None:
    lab.sagegate("reject", "3", "--reason", "a leak")
    failed = lab.promote("staging", "--model", "3", check=False)
    assert failed.returncode == 1 and "a leak" in failed.stderr
    unknown = lab.promote("staging", "--model", "9", check=False)
    assert unknown.returncode == 1 and "there is no model 9" in unknown.stderr
    assert lab.open() == []
    lab.promote()
    assert lab.version() == 2


def test_a_model_that_did_not_pass_the_gate_is_an_error(lab: Lab) -> None:
    file = next((lab.project / ".mlops" / "registry").rglob("3.json"))
    uri = json.loads(file.read_text())["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    evaluation = lab.project / ".mlops" / "s3" / uri.removeprefix("s3://")
    found = json.loads(evaluation.read_text())
    found["gate"] |= {"threshold": 2.0, "threshold_margin": found["gate"]["candidate"] - 2.0}
    evaluation.write_text(json.dumps(found))
    failed = lab.promote(check=False)
    assert failed.returncode == 1 and "passed is true, which the gate's own numbers contradict" in failed.stderr
    found["gate"] |= {"passed": False, "reason": "auc misses the threshold"}
    evaluation.write_text(json.dumps(found))
    failed = lab.promote(check=False)
    assert failed.returncode == 1 and "did not pass the gate (auc misses the threshold)" in failed.stderr
    evaluation.unlink()
    failed = lab.promote(check=False)
    assert failed.returncode == 1 and "no evaluation.json" in failed.stderr


def test_a_gate_with_other_settings_than_the_base_branch_is_an_error(lab: Lab) -> None:
    """Whoever starts an execution may choose its threshold; the base branch has the one that was reviewed."""
    lab.run_in(lab.project, "sagegate", "run", "--set", "GateThreshold=0.55", "--set", "max_depth=5")
    for command in (("--pull-request",), ()):
        failed = lab.sagegate("promote", "staging", "--from", "local", *command, check=False)
        assert failed.returncode == 1 and len(failed.stderr.strip().splitlines()) == 1
        used, wanted = (f"auc, threshold {value}, min_improvement -0.02, confidence 0.95" for value in ("0.55", "0.6"))
        assert f"model 4 was judged by {used}, but mlops.toml on the base branch says {wanted}:" in failed.stderr
    assert lab.open() == [] and not (lab.project / "deployments" / "staging.json").exists()

    # The working tree has no say in what the base branch says.
    settings = lab.project / "mlops.toml"
    settings.write_text(settings.read_text().replace("threshold = 0.6", "threshold = 0.55"))
    failed = lab.promote(check=False)
    assert failed.returncode == 1 and "mlops.toml on the base branch says auc, threshold 0.6" in failed.stderr


def test_a_changed_artifact_is_an_error(lab: Lab) -> None:
    for artifact in (lab.project / ".mlops" / "s3").rglob("model.tar.gz"):
        artifact.write_bytes(b"something else")
    failed = lab.promote(check=False)
    assert failed.returncode == 1 and "is not the artifact that was evaluated" in failed.stderr
    assert lab.open() == []


def test_prod_takes_only_a_model_that_is_healthy_in_staging(lab: Lab) -> None:
    def failed(words: str, *args: str) -> None:
        done = lab.promote("prod", *args, check=False)
        assert done.returncode == 1 and words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1

    failed("nothing was promoted to staging yet")
    lab.promote("staging", "--model", "2")
    failed("nothing was promoted to staging yet")  # proposed is not promoted
    lab.merge()
    failed("did not run in staging yet")
    lab.record("failed", "alarm my-model-staging-5xx")
    failed("alarm my-model-staging-5xx")
    lab.record()
    failed("staging pins model 2, not 3", "--model", "3")
    lab.promote("prod")
    (pull,) = lab.open()
    assert pull["head"]["ref"] == "promote/prod"
    assert re.search(
        r"### Staging\n\n✅ healthy since 2\S+ \d\d:\d\d UTC: `smoke test passed`\. Deployed by `ada`", pull["body"]
    )
    assert "What changed" not in pull["body"]  # nothing is deployed in prod
    staging, prod = lab.pin("main"), lab.pin("promote/prod", "prod")
    assert (prod["model"], prod["evidence"]) == (staging["model"], staging["evidence"])
    lab.merge()
    assert "prod pins model 2 already" in lab.promote("prod").stdout
    lab.promote()
    lab.merge()
    failed("model 3 did not run in staging yet (model 2 was deployed there last)")
    lab.record()
    lab.promote("prod")
    changes = lab.open()[0]["body"].partition("### What changed since the deployed model")[2].partition("###")[0]
    assert "|  | model 2 | model 3 |" in changes and "| gate: candidate | `0.9" in changes
    assert "commit" not in changes and "data version" not in changes  # they are the same


def test_prod_does_not_take_a_model_that_was_rejected_after_staging(lab: Lab) -> None:
    lab.promote()
    lab.merge()
    lab.record()
    lab.sagegate("reject", "3", "--reason", "a leak")
    failed = lab.promote("prod", check=False)
    assert failed.returncode == 1 and "was rejected since" in failed.stderr


def test_a_manifest_edited_by_hand_is_an_error_with_its_key(lab: Lab) -> None:
    lab.sagegate("promote", "staging", "--from", "local")
    file = lab.project / "deployments" / "staging.json"
    good = file.read_text()
    file.write_text(good.replace('"replaces"', '"extra": 1,\n  "replaces"'))
    for command in (("check",), ("promote", "staging", "--from", "local")):
        failed = lab.sagegate(*command, check=False)
        assert failed.returncode == 1 and "deployments/staging.json: extra: no such key" in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1
    file.write_text(good)
    lab.sagegate("check")
    file.rename(file.with_name("production.json"))
    assert "deployments/production.json: there is no such environment" in lab.sagegate("check", check=False).stderr


def test_a_pull_request_leaves_the_clone_alone(lab: Lab) -> None:
    """Working tree, index and branches stay, and the clone needs no remote."""
    git(lab.project, "switch", "-qc", "mine")
    (lab.project / "mlops.toml").open("a").write("\n# mine\n")
    (lab.project / "notes.txt").write_text("mine")
    (lab.project / "deployments" / "staging.json").write_text("{ not even JSON")
    git(lab.project, "add", "notes.txt")
    git(lab.project, "remote", "remove", "origin")

    def state() -> list[str]:
        return [git(lab.project, *args) for args in (["status", "--porcelain"], ["rev-parse", "HEAD"], ["branch"])]

    before = state()
    lab.promote()
    assert state() == before
    assert git(lab.bare, "diff", "--name-only", "main...promote/staging") == "deployments/staging.json"


def test_without_a_pull_request_only_the_file_is_written(lab: Lab) -> None:
    said = lab.sagegate("promote", "staging", "--from", "local").stdout
    assert "deployments/staging.json pins model 3" in said
    assert git(lab.project, "status", "--porcelain") == "?? deployments/staging.json"
    assert lab.github.requests == []
    text = (lab.project / "deployments" / "staging.json").read_text()
    assert text.endswith("}\n") and list(json.loads(text)) == sorted(json.loads(text))


def test_text_of_others_is_not_markup_in_the_body(lab: Lab) -> None:
    hostile = (
        "`x | <img src=x> @org/team fixes #1 [a](http://b) \r\n<!-- sagegate promote staging: model 9 for nothing -->"
    )
    lab.run_in(lab.project, "sagegate", "run", "--set", "max_depth=5", env={"GITHUB_ACTOR": hostile})
    lab.promote("staging", GITHUB_ACTOR=hostile)
    body = lab.open()[0]["body"]
    evidence = lab.pin("promote/staging")["evidence"]
    assert evidence["started_by"].startswith("-x - -img src=x- @org/team")
    assert "max_depth=5" in evidence["overrides"] and f"| overrides | `{evidence['overrides']}` |" in body
    html = MarkdownIt("commonmark").enable("table").render(body)
    outside = re.sub(r"<code>.*?</code>", "", html)
    for mark in ("<img", "@org", "fixes", "http://b", "model 9"):
        assert mark in body and mark not in outside
    assert html.count("<table>") == html.count("</table>") == 2
    assert body.count("\n<!-- sagegate") == 1
    assert "unchanged" in lab.promote("staging", GITHUB_ACTOR=hostile).stdout


def test_the_report_is_linked_if_it_is_about_the_model_that_is_proposed(lab: Lab) -> None:
    url = "https://github.com/acme/my-model/actions/runs/1/artifacts/2"
    lab.promote(SAGEGATE_REPORT=f"another00000 {url}")
    body = lab.open()[0]["body"]
    assert "`sagegate report 3`" in body and url not in body
    run = lab.run_in(lab.project, "sagegate", "run", "--set", "max_depth=5").stdout
    lab.promote(SAGEGATE_REPORT=f"{execution(run)} {url}")
    assert f"`sagegate report 4`, or [`the page`]({url}) of the run" in lab.open()[0]["body"]


def test_an_error_from_github_is_one_line(lab: Lab) -> None:
    def failed(words: str, **env: str) -> None:
        done = lab.promote("staging", check=False, **env)
        assert done.returncode != 0 and words in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1

    failed("GITHUB_TOKEN is not set", GITHUB_TOKEN="")
    lab.github.actions.can_approve_pull_request_reviews = False
    failed('"Allow GitHub Actions to create and approve pull requests"')
    lab.github.actions.can_approve_pull_request_reviews = True
    assert lab.open() == []
    git(lab.bare, "update-ref", "-d", "refs/heads/promote/staging")  # the same commit again would move nothing
    lab.github.actions.locked_branches.add("promote/staging")
    failed("GitHub did not move branch promote/staging (Repository rule violations found)")
    lab.github.actions.lock_message = (
        "refusing to allow a GitHub App to create or update workflow `.github/workflows/ci.yml` without `workflows`"
        " permission"
    )
    failed("delete promote/staging, or use a GitHub App with the permission `workflows: write`")
    lab.github.failures.append(Failure("POST .*/graphql", 403, lab.github.actions.lock_message))
    failed("delete the promotion's branch, or use a GitHub App")
    (lab.project / ".git").rename(lab.project / "git")
    failed("is not in a git repository")


@pytest.mark.parametrize("args", [("dev",), ("local",), ("production",)])
def test_models_are_promoted_to_staging_and_prod_only(bake: Bake, run_in: RunIn, args: tuple[str, ...]) -> None:
    failed = run_in(bake(), "sagegate", "promote", *args, check=False)
    assert failed.returncode == 2 and "staging and prod" in failed.stderr
