"""A pipeline session whose S3 is a folder: nothing leaves this machine while the SDK compiles."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sagemaker.core.workflow.pipeline_context import PipelineSession

BUCKET = "bucket"


class S3:
    """The one call that the tuner makes of boto3's S3 client."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def upload_file(self, filename: str, bucket: str, key: str, **_: Any) -> None:
        """Put a file into the store."""
        target = self.store / bucket / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(filename, target)


class OfflineSession(PipelineSession):  # type: ignore[misc]
    """A session whose S3 is a folder."""

    def __init__(self, store: Path) -> None:
        opt_out = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
        super().__init__(sagemaker_config={"SchemaVersion": "1.0", **opt_out}, default_bucket=BUCKET)
        self.s3 = S3(store)
        known = self.boto_session.client
        self.boto_session.client = lambda name, **more: self.s3 if name == "s3" else known(name, **more)

    def default_bucket(self) -> str:
        """The bucket that all uploads go to."""
        return BUCKET

    def account_id(self) -> str:
        """No account."""
        return "000000000000"

    def upload_data(self, path: str, bucket: str | None = None, key_prefix: str = "data", **_: Any) -> str:
        """Put a file or a folder into the store; its URI, as the SDK's own method gives it."""
        source = Path(path)
        files = [source] if source.is_file() else [f for f in source.rglob("*") if f.is_file()]
        for file in files:
            name = file.name if source.is_file() else file.relative_to(source).as_posix()
            self.s3.upload_file(str(file), bucket or BUCKET, f"{key_prefix}/{name}")
        return f"s3://{bucket or BUCKET}/{key_prefix}" + (f"/{source.name}" if source.is_file() else "")

    def upload_string_as_file_body(self, body: str | bytes, bucket: str, key: str, *_: Any, **__: Any) -> str:
        """Put a text into the store; its URI."""
        target = self.s3.store / bucket / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body.encode() if isinstance(body, str) else body)
        return f"s3://{bucket}/{key}"
