"""The boto3 of a local job reaches the local S3, and nothing else."""

import sys

from local_lab import BUCKET, Lab

READ = """
import boto3, pathlib, sys
base = pathlib.Path(__file__).parents[2]
s3 = boto3.client("s3")
boto3.resource("s3").Bucket("bucket").download_file("data/rows.csv", str(base / "rows.csv"))
assert (base / "rows.csv").read_text() == "a,b"
assert s3.get_object(Bucket="bucket", Key="data/rows.csv", Range="bytes=2-2")["Body"].read() == b"b"
names = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="data/")
         for o in page["Contents"]]
folders = [p["Prefix"] for p in s3.list_objects_v2(Bucket="bucket", Prefix="data/", Delimiter="/")["CommonPrefixes"]]
(base / "big").write_bytes(b"x" * 20_000_000)
s3.upload_file(str(base / "big"), "bucket", "made/big")
s3.download_file("bucket", "made/big", str(base / "again"))
assert (base / "again").read_bytes() == (base / "big").read_bytes()
s3.copy_object(Bucket="bucket", Key="made/copy & co", CopySource={"Bucket": "bucket", "Key": "data/rows.csv"})
s3.put_object(Bucket="bucket", Key="made/gone", Body=b"")
s3.delete_object(Bucket="bucket", Key="made/gone")
failures = []
for call in (lambda: s3.get_object(Bucket="bucket", Key="none"), lambda: s3.list_objects_v2(Bucket="other"),
             lambda: s3.get_bucket_acl(Bucket="bucket"), lambda: boto3.client("sagemaker").list_models(),
             lambda: boto3.client("sts").get_caller_identity(),
             lambda: boto3.client("s3", aws_access_key_id="x", aws_secret_access_key="y").list_buckets()):
    try:
        call()
    except Exception as error:
        failures.append(str(error))
(base / "output" / "out" / "x.txt").write_text("|".join([*names, *folders, *failures]))
"""


def test_boto3_reads_and_writes_local_objects_and_says_what_it_cannot(lab: Lab) -> None:
    lab.put("data/rows.csv", "a,b")
    lab.put("data/2026/more.csv", "c")
    step = lab.processing("Read", READ)
    step["Arguments"]["Environment"] = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    first, second, folder, *failures = lab.get(f"{lab.output(done, 'Read')}/x.txt").split("|")
    assert (first, second, folder) == ("data/2026/more.csv", "data/rows.csv", "data/2026/")
    words = [
        ("NoSuchKey", "no object s3://bucket/none in the local S3"),
        ("NoSuchBucket", "other is not in the local S3: copy what the job reads to"),
        ("NotImplemented", "the local S3 does not know this call"),
        ("NotImplemented", "a local job reaches S3 only, not sagemaker"),
        ("NotImplemented", "a local job reaches S3 only, not sts"),
        ("InvalidAccessKeyId", "another process"),
    ]
    assert len(failures) == len(words)
    for failure, (code, text) in zip(failures, words, strict=True):
        assert code in failure and text in failure, failure
    assert lab.get(f"s3://{BUCKET}/made/copy & co") == "a,b"
    assert not (lab.store.folder / BUCKET / "made" / "gone").exists()
