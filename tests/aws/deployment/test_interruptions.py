"""Killed, throttled, cut off, expired, twice at once: repeating it converges, and the endpoint serves throughout."""

from fakes.proxy import Weather
from fakes.remote import until

from deployment.lab import GOOD, OTHER, SKEWED, Lab, Recorder, failures

REPEATED = (  # where a deployment is killed, one after the other; each run starts from what the one before left behind
    ("UpdateModelPackage", 1),
    ("CreateChangeSet", 1),
    ("ExecuteChangeSet", 1),
    ("InvokeEndpoint", 3),
)


def test_killed_at_any_point(shop: Lab) -> None:
    shop.pin("staging", GOOD)
    for operation, number in REPEATED:
        shop.killed(operation, number, "deploy", "staging")
        assert shop.results("staging") == [] and shop.champion() is None
    shop.sagegate("deploy", "staging")
    assert shop.results("staging") == [(GOOD, "healthy")] and shop.answers("staging", GOOD)
    with shop.hammer("staging") as answers:
        shop.pin("staging", OTHER)
        for operation, number in REPEATED:
            shop.killed(operation, number, "deploy", "staging")
        # The model, its record, the marker's end: what is written after the smoke test, the deployment's record last.
        shop.killed("PUT s3", 1, "deploy", "staging")
        assert shop.results("staging") == [(GOOD, "healthy")]
        shop.sagegate("deploy", "staging")
        assert shop.results("staging")[1:] == [(OTHER, "healthy")] and shop.champion() == OTHER
        assert "healthy already" in shop.sagegate("deploy", "staging")
    assert not failures(answers), failures(answers)
    assert {who for _, who in answers} == {f"model {GOOD}", f"model {OTHER}"}


def test_killed_while_a_bad_model_is_there(shop: Lab) -> None:
    """Killed with the bad model in place, and once more while the former one is put back."""
    shop.pin("staging", GOOD)
    shop.sagegate("deploy", "staging")
    shop.pin("staging", SKEWED)
    with shop.hammer("staging") as answers:
        shop.killed("InvokeEndpoint", 1, "deploy", "staging")
        assert shop.results("staging") == [(GOOD, "healthy")]
        shop.killed("ExecuteChangeSet", 1, "deploy", "staging")  # nothing is to be changed but back
        told = shop.sagegate("deploy", "staging", code=1)
        assert f"model {GOOD} serves again" in told
        assert shop.answers("staging", GOOD) and shop.results("staging")[1:] == [(SKEWED, "failed")]
    assert not failures(answers), failures(answers)


def test_a_fifth_of_all_calls_may_go_wrong(shop: Lab) -> None:
    shop.proxy.close()
    bad = Weather(throttle=0.08, reset_before=0.06, reset_after=0.06)
    shop.proxy = Recorder(shop.direct["AWS_ENDPOINT_URL"], bad)
    for version in (GOOD, OTHER):
        shop.pin("staging", version)
        assert "smoke test passed" in shop.sagegate("deploy", "staging")
    assert shop.results("staging") == [(GOOD, "healthy"), (OTHER, "healthy")] and shop.answers("staging", OTHER)
    spoilt = {what: shop.proxy.counts[what] for what in ("throttle", "reset_before", "reset_after")}
    assert all(spoilt.values()), f"the proxy spoilt too little to prove anything: {shop.proxy.counts}"


def test_credentials_expire_on_the_way(shop: Lab) -> None:
    shop.pin("staging", GOOD)
    shop.proxy.on("ExecuteChangeSet", 1, lambda: "expired")
    said = shop.sagegate("deploy", "staging", code=1)
    assert said.strip().splitlines()[-1].startswith("sagegate: the AWS credentials have expired: log in again")
    assert shop.results("staging") == []
    shop.sagegate("deploy", "staging")
    assert shop.results("staging") == [(GOOD, "healthy")] and shop.answers("staging", GOOD)


def test_two_at_once(shop: Lab) -> None:
    """Both see no stack; both make a change set; one is faster, and the other one waits for it."""
    shop.pin("staging", GOOD)

    def both_have_made_theirs() -> None:
        until(lambda: shop.proxy.operations.count("CreateChangeSet") >= 2, 60)

    shop.proxy.on("ExecuteChangeSet", 1, both_have_made_theirs)
    first, second = (shop.start("deploy", "staging") for _ in range(2))
    told = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), told
    assert sum("another process is changing the stack" in said for said in told) == 1, "\n".join(told)
    assert set(shop.results("staging")) == {(GOOD, "healthy")} and shop.champion() == GOOD
    assert shop.stack("staging") in ("CREATE_COMPLETE", "UPDATE_COMPLETE") and shop.answers("staging", GOOD)
