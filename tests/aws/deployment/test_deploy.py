"""Deploying: what it writes, what it leaves alone, and what becomes of a model that is not as it was."""

import hashlib
import re

from deployment.lab import BUCKET, GOOD, OTHER, PROJECT, SKEWED, Lab, failures


def test_what_is_deployed_already_is_left_alone(shop: Lab) -> None:
    shop.pin("staging", GOOD)
    assert "smoke test passed" in shop.sagegate("deploy", "staging")
    assert shop.answers("staging", GOOD)
    before = len(shop.proxy.writes)
    assert "deployed and healthy already" in shop.sagegate("deploy", "staging")
    assert shop.proxy.writes[before:] == []
    assert shop.results("staging") == [(GOOD, "healthy")]


def test_a_model_that_answers_differently_once_served(shop: Lab) -> None:
    """First ever: the endpoint goes. Later: the former model serves again, and no request fails."""
    said = "predictions[0].label is 'skewed'"
    shop.pin("staging", SKEWED)
    assert said in shop.sagegate("deploy", "staging", code=1)
    assert shop.stack("staging") is None and shop.champion() is None
    stage = shop.package(SKEWED)["ModelLifeCycle"]
    assert (stage["Stage"], stage["StageStatus"]) == ("Staging", "Failed") and said in stage["StageDescription"]
    shop.pin("staging", GOOD)
    shop.sagegate("deploy", "staging")
    with shop.hammer("staging") as answers:
        for _ in range(2):
            shop.pin("staging", SKEWED)
            told = shop.sagegate("deploy", "staging", code=1)
            assert said in told and f"model {GOOD} serves again" in told
            assert shop.answers("staging", GOOD) and shop.champion() == GOOD
        shop.pin("staging", OTHER)
        shop.sagegate("deploy", "staging")
    assert not failures(answers), failures(answers)
    assert shop.answers("staging", OTHER) and shop.champion() == OTHER
    expected = [(SKEWED, "failed"), (GOOD, "healthy"), (SKEWED, "failed"), (SKEWED, "failed"), (OTHER, "healthy")]
    assert shop.results("staging") == expected
    assert said in shop.records("staging")[0]["reason"]


def test_a_champion_gives_way_to_a_better_model_and_where_it_is_rolled_back_only(shop: Lab) -> None:
    """Prod that follows staging late, or changes shape, does not lower what candidates have to reach."""

    def deploy(environment: str, version: int) -> int | None:
        shop.pin(environment, version)
        shop.sagegate("deploy", environment)
        assert shop.answers(environment, version)
        return shop.champion()

    assert [deploy("staging", GOOD), deploy("staging", OTHER)] == [GOOD, OTHER]
    assert deploy("prod", GOOD) == OTHER, "prod follows late"
    settings = shop.project / "environments" / "prod.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("max_5xx_errors = 5", "max_5xx_errors = 6"), encoding="utf-8")
    assert deploy("prod", GOOD) == OTHER, "the same model in another shape"
    assert [result for _, result in shop.results("prod")] == ["healthy", "healthy"]
    assert [deploy("prod", OTHER), deploy("prod", GOOD)] == [OTHER, GOOD], "prod goes back from it"


def test_an_endpoint_that_cannot_be_asked_does_not_stay(shop: Lab) -> None:
    """A call that breaks off is a failed smoke test as much as a wrong answer: the former model serves again."""
    shop.pin("staging", GOOD)
    shop.sagegate("deploy", "staging")
    shop.pin("staging", OTHER)
    shop.proxy.on("InvokeEndpoint", 3, lambda: "throttle")
    told = shop.sagegate("deploy", "staging", code=1, AWS_MAX_ATTEMPTS="1")
    assert "smoke test failed: AWS throttled InvokeEndpoint" in told and f"model {GOOD} serves again" in told
    assert shop.answers("staging", GOOD) and shop.champion() == GOOD
    assert shop.results("staging") == [(GOOD, "healthy"), (OTHER, "failed")]


def test_a_model_that_could_not_be_tested_does_not_go_live(shop: Lab) -> None:
    shop.pin("staging", GOOD)
    shop.sagegate("deploy", "staging")
    before = len(shop.proxy.writes)
    digest = shop.replace_artifact(OTHER, {"model.joblib": b"a model without a sample"})
    pin = shop.snapshot.pins[OTHER]
    shop.snapshot.pins[OTHER] = re.sub('"sha256": ".*"', f'"sha256": "{digest}"', pin)
    try:
        shop.pin("staging", OTHER)
        assert "holds no sample request" in shop.sagegate("deploy", "staging", code=1)
    finally:
        shop.snapshot.pins[OTHER] = pin
    assert shop.proxy.writes[before:] == [] and shop.answers("staging", GOOD)


def test_what_failed_in_staging_inherits_no_crown(shop: Lab) -> None:
    for version in (GOOD, OTHER):
        shop.pin("staging", version)
        shop.sagegate("deploy", "staging")
    shop.pin("staging", SKEWED)
    shop.sagegate("deploy", "staging", code=1)
    assert shop.package(SKEWED)["ModelApprovalStatus"] == "Approved"
    shop.sagegate("reject", str(OTHER), "--reason", "unfair", "--env", "dev")
    assert shop.champion() == GOOD


def test_models_tells_what_is_live_from_what_is_pinned(shop: Lab) -> None:
    shop.pin("staging", GOOD)
    shop.sagegate("deploy", "staging")
    shop.pin("staging", OTHER)
    rows = {line.split()[0]: line for line in shop.sagegate("models", "--env", "dev").splitlines()}
    assert " staging " in rows[str(GOOD)] and "(pinned)" not in rows[str(GOOD)]
    assert "staging (pinned)" in rows[str(OTHER)]
    assert "dev has no endpoint: choose staging or prod" in shop.sagegate("invoke", "--env", "dev", code=1)


def test_a_job_cannot_change_a_model_once_it_is_approved(shop: Lab) -> None:
    """Jobs may write over `executions/`. What endpoints read after approval, they may not."""
    shop.pin("staging", GOOD)
    shop.sagegate("deploy", "staging")
    digest = re.findall('"sha256": "(.*)"', shop.snapshot.pins[GOOD])[-1]
    kept = f"{PROJECT}/models/{digest}/model.tar.gz"
    assert hashlib.sha256(shop.s3.get_object(Bucket=BUCKET, Key=kept)["Body"].read()).hexdigest() == digest

    shop.replace_artifact(GOOD, {"model.joblib": b"what a later job wrote"})
    settings = shop.project / "environments" / "staging.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("max_5xx_errors = 5", "max_5xx_errors = 6"), encoding="utf-8")
    before = shop.s3.head_object(Bucket=BUCKET, Key=kept)["LastModified"]
    shop.sagegate("deploy", "staging")
    assert shop.answers("staging", GOOD) and shop.champion() == GOOD
    champion = shop.s3.get_object(Bucket=BUCKET, Key=f"{PROJECT}/champion/model.tar.gz")["Body"].read()
    assert hashlib.sha256(champion).hexdigest() == digest
    assert shop.s3.head_object(Bucket=BUCKET, Key=kept)["LastModified"] == before, "the copy is left as it is"

    assert "is not the artifact that was evaluated" in shop.sagegate(
        "approve", str(GOOD), "--reason", "good", "--env", "dev", code=1
    )


def test_a_package_that_was_registered_as_approved_is_refused(shop: Lab) -> None:
    found = shop.package(GOOD)
    container = found["InferenceSpecification"]["Containers"][0]
    uri = f"s3://{BUCKET}/{PROJECT}/executions/forged/model.tar.gz"
    artifact = shop.s3.get_object(Bucket=BUCKET, Key=container["ModelDataUrl"].removeprefix(f"s3://{BUCKET}/"))["Body"]
    shop.s3.put_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"), Body=artifact.read())
    forged = {"Name": "approved", "Containers": [{"Image": container["Image"], "ModelDataUrl": uri}]}
    shop.sagemaker.update_model_package(
        ModelPackageArn=found["ModelPackageArn"], AdditionalInferenceSpecificationsToAdd=[forged]
    )
    shop.pin("staging", GOOD)
    said = shop.sagegate("deploy", "staging", code=1)
    assert "model 1: its inference specification `approved` is not that of" in said.splitlines()[-1]
    assert shop.stack("staging") is None
