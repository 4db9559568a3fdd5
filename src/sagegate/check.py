"""`sagegate check`: validate the project's files offline."""

from __future__ import annotations

import sys
from pathlib import Path

from sagegate.config import ENVIRONMENTS, load_environment, load_settings
from sagegate.errors import SagegateError
from sagegate.pipeline import definition
from sagegate.pipeline.validate import argument_errors, reference_errors
from sagegate.registry.deployments import check_manifests


def check(root: Path) -> None:
    """Check the settings, all environments, deployments/ and the compiled definition.

    Raises SagegateError for the first file with an error; each error in the definition is a line on standard error.
    """
    settings = load_settings(root)
    for name in ENVIRONMENTS:
        load_environment(root, name)
    check_manifests(root)
    compiled = definition.load(root)
    errors = [*reference_errors(compiled), *argument_errors(compiled)]
    for error in errors:
        print(f"pipeline/definition.json: {error}", file=sys.stderr)
    if errors:
        raise SagegateError(
            f"errors in the definition: {len(errors)}: fix pipeline/pipeline.py, run `sagegate compile`"
        )
    if definition.is_stale(root, settings):
        raise SagegateError(
            "pipeline/definition.json is stale (pipeline.py, or a name or type in [hyperparameters], is not what it "
            "was compiled from): run `sagegate compile` and commit it"
        )
    print(f"ok: {len(definition.steps_of(compiled))} steps, {len(compiled['Parameters'])} parameters")
