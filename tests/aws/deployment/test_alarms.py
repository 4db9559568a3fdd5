"""An alarm that rings while a canary takes traffic: back to the former model, by itself and reported by name."""

import re

from fakes.remote import until

from deployment.lab import GOOD, OTHER, PROJECT, Lab, failures

ALARM = f"{PROJECT}-staging-5xx"


def test_an_alarm_rings_during_the_canary(shop: Lab) -> None:
    shop.pin("staging", GOOD)
    shop.sagegate("deploy", "staging")
    file = shop.project / "environments" / "staging.toml"
    patient = re.sub("wait_in_seconds = [0-9]+", "wait_in_seconds = 2700", file.read_text(encoding="utf-8"))
    file.write_text(patient, encoding="utf-8")
    shop.pin("staging", OTHER)
    with shop.hammer("staging") as answers:
        deploying = shop.start("deploy", "staging")
        try:
            until(lambda: answers["staging", f"model {OTHER}"] > 0, 60)  # the canary answers
            shop.cloudwatch.set_alarm_state(AlarmName=ALARM, StateValue="ALARM", StateReason="as if")
            told, _ = deploying.communicate(timeout=60)
        finally:
            deploying.kill()
            deploying.wait()
        assert deploying.returncode == 1 and f"in ALARM: {ALARM}" in told and "UPDATE_ROLLBACK_COMPLETE" in told
    assert not failures(answers), failures(answers)
    assert shop.stack("staging") == "UPDATE_ROLLBACK_COMPLETE"
    assert shop.answers("staging", GOOD) and shop.champion() == GOOD
    assert shop.results("staging") == [(GOOD, "healthy"), (OTHER, "failed")]
    assert ALARM in shop.records("staging")[1]["reason"]
