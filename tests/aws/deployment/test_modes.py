"""Serverless, asynchronous and batch: deployed, smoke-tested, and asked by `sagegate invoke`."""

import json
import re

from clean_copy import ROOT

from deployment.lab import BUCKET, GOOD, OTHER, PROJECT, Lab, same


def mode(shop: Lab, name: str) -> None:
    """Change staging's mode."""
    file = shop.project / "environments" / "staging.toml"
    text = re.sub('(?m)^mode = "[a-z-]+"', f'mode = "{name}"', file.read_text(encoding="utf-8"))
    assert f'mode = "{name}"' in text
    file.write_text(text, encoding="utf-8")


def invoked(shop: Lab, version: int, *args: str) -> bool:
    """Return True if `sagegate invoke` prints a version's recorded answer."""
    said = shop.sagegate("invoke", "--env", "staging", *args)
    return same(json.loads(said), shop.snapshot.sample(version)[1])


def test_serverless(shop: Lab) -> None:
    assert "nothing is deployed to staging" in shop.sagegate("invoke", "--env", "staging", code=1)
    mode(shop, "serverless")
    shop.pin("staging", GOOD)
    assert "smoke test passed: 20 requests" in shop.sagegate("deploy", "staging")
    variant = shop.sagemaker.describe_endpoint(EndpointName=f"{PROJECT}-staging")["ProductionVariants"][0]
    assert "CurrentServerlessConfig" in variant
    assert invoked(shop, GOOD)
    rows = shop.project / "rows.csv"
    rows.write_text("not,a,row\n", encoding="utf-8")
    assert "the model rejects the request (400): row 1" in shop.sagegate(
        "invoke", "rows.csv", "--env", "staging", code=1
    )


def test_asynchronous_then_batch(shop: Lab) -> None:
    mode(shop, "asynchronous")
    shop.pin("staging", GOOD)
    assert "smoke test passed: 3 requests" in shop.sagegate("deploy", "staging")
    assert invoked(shop, GOOD)
    mode(shop, "batch")
    shop.pin("staging", OTHER)
    assert "registered for batch jobs" in shop.sagegate("deploy", "staging")
    assert shop.sagemaker.list_endpoints()["Endpoints"] == []
    assert shop.results("staging") == [(GOOD, "healthy"), (OTHER, "healthy")]
    assert "staging has no endpoint (mode = batch)" in shop.sagegate("invoke", "--env", "staging", code=1)

    request, expected = shop.snapshot.sample(OTHER)
    source = f"s3://{BUCKET}/in/"
    assert "there is no object" in shop.sagegate("invoke", "--env", "staging", "--batch", source, code=1)
    shop.s3.put_object(Bucket=BUCKET, Key="in/a.json", Body=request)
    said = shop.sagegate("invoke", "--env", "staging", "--batch", source)
    found = re.search(rf"the answers are at s3://{BUCKET}/(\S+)", said)
    assert found and found[1].startswith(f"{PROJECT}/batch/staging/{PROJECT}-staging-{OTHER}-"), said
    answer = shop.s3.get_object(Bucket=BUCKET, Key=f"{found[1]}a.json.out")["Body"].read()
    assert same(json.loads(answer), expected)
    follow_the_page_about_batches(shop)
    shop.s3.put_object(Bucket=BUCKET, Key="bad/a.csv", Body=b"not,a,row\n")
    failed = shop.sagegate("invoke", "--env", "staging", "--batch", f"s3://{BUCKET}/bad/", code=1)
    assert "Failed" in failed and "/aws/sagemaker/TransformJobs" in failed


def follow_the_page_about_batches(shop: Lab) -> None:
    """Run the commands of docs/how-to/batch.md on AWS with rows of the sample data."""
    page = (ROOT / "docs" / "how-to" / "batch.md").read_text(encoding="utf-8").replace("BUCKET", BUCKET)
    (copied,) = re.findall(rf"aws s3 cp rows.csv s3://{BUCKET}/(\S+)", page)
    (command,) = re.findall(r"uv run sagegate (invoke --env staging --batch .*)", page)
    rows = (shop.project / "data" / "breast_cancer.csv").read_text(encoding="utf-8").splitlines()[1:21]
    without_target = "".join(f"{row.rpartition(',')[0]}\n" for row in rows)
    shop.s3.put_object(Bucket=BUCKET, Key=copied, Body=without_target.encode())
    found = re.search(rf"the answers are at s3://{BUCKET}/(\S+)", shop.sagegate(*command.split()))
    assert found
    lines = shop.s3.get_object(Bucket=BUCKET, Key=f"{found[1]}rows.csv.out")["Body"].read().decode().splitlines()
    assert len(lines) == 20 and {line.split(",")[0] for line in lines} == {"benign", "malignant"}
