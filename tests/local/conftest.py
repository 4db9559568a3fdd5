"""The `lab` fixture of the local engine's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_lab import ACCOUNT, REGION, Lab

from mlops.local.sagemaker import LocalSageMaker
from mlops.local.store import Store


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A project's client with nothing in it."""
    store = Store(tmp_path / ".mlops" / "s3")
    client = LocalSageMaker(tmp_path, store, REGION, ACCOUNT, lambda path: ())
    yield Lab(tmp_path, client, store)
    client.close()
