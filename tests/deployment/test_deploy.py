"""Deploying: what it writes, what it leaves alone, and what becomes of a model that is not as it was."""

from deployment.lab import GOOD, OTHER, SKEWED, Lab, failures


def test_what_is_deployed_already_is_left_alone(shop: Lab) -> None:
    shop.pin("staging", GOOD)
    assert "smoke test passed" in shop.mlops("deploy", "staging")
    assert shop.answers("staging", GOOD)
    before = len(shop.proxy.writes)
    assert "deployed and healthy already" in shop.mlops("deploy", "staging")
    assert shop.proxy.writes[before:] == []
    assert shop.results("staging") == [(GOOD, "healthy")]


def test_a_model_that_answers_differently_once_served(shop: Lab) -> None:
    """First ever: the endpoint goes. Later: the former model serves again, and no request fails."""
    said = "predictions[0].label is 'skewed'"
    shop.pin("staging", SKEWED)
    assert said in shop.mlops("deploy", "staging", code=1)
    assert shop.stack("staging") is None and shop.champion() is None
    stage = shop.package(SKEWED)["ModelLifeCycle"]
    assert (stage["Stage"], stage["StageStatus"]) == ("Staging", "Failed") and said in stage["StageDescription"]
    shop.pin("staging", GOOD)
    shop.mlops("deploy", "staging")
    with shop.hammer("staging") as answers:
        for _ in range(2):
            shop.pin("staging", SKEWED)
            told = shop.mlops("deploy", "staging", code=1)
            assert said in told and f"model {GOOD} serves again" in told
            assert shop.answers("staging", GOOD) and shop.champion() == GOOD
        shop.pin("staging", OTHER)
        shop.mlops("deploy", "staging")
    assert not failures(answers), failures(answers)
    assert shop.answers("staging", OTHER) and shop.champion() == OTHER
    expected = [(SKEWED, "failed"), (GOOD, "healthy"), (SKEWED, "failed"), (SKEWED, "failed"), (OTHER, "healthy")]
    assert shop.results("staging") == expected
    assert said in shop.records("staging")[0]["reason"]


def test_a_champion_gives_way_to_a_better_model_and_where_it_is_rolled_back_only(shop: Lab) -> None:
    """Prod that follows staging late, or changes shape, does not lower what candidates have to reach."""

    def deploy(environment: str, version: int) -> int | None:
        shop.pin(environment, version)
        shop.mlops("deploy", environment)
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
