"""`sagegate check`: validate the project's files offline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sagegate import pins
from sagegate.config import ENVIRONMENTS, Environment, Settings, load_environment, load_settings
from sagegate.data.project import check_data
from sagegate.errors import SagegateError, warn
from sagegate.files import Json
from sagegate.names import Names
from sagegate.pipeline import definition, parameters, shapes
from sagegate.pipeline.code import check_hyperparameters
from sagegate.pipeline.validate import reference_errors
from sagegate.registry.deployments import check_manifests


def check(root: Path) -> None:
    """Check the settings, all environments, deployments/, the compiled definition, data, schema and gate, and versions.

    Raises SagegateError for the first file with an error. Each error in the definition, and each version that differs
    from the image's, is a line on standard error.
    """
    settings = load_settings(root)
    environments = [load_environment(root, name) for name in ENVIRONMENTS]
    on_aws = [environment for environment in environments if not environment.is_local]
    check_manifests(root)
    check_hyperparameters(root, settings.hyperparameters)
    compiled = definition.load(root)
    errors = [f"pipeline/definition.json: {error}" for error in reference_errors(compiled)]
    errors = errors or list(request_errors(compiled, settings, on_aws))
    for error in errors:
        print(error, file=sys.stderr)
    if errors:
        raise SagegateError(
            f"errors: {len(errors)}: fix pipeline/pipeline.py or the settings, and run `sagegate compile`"
        )
    if definition.is_stale(root, settings):
        raise SagegateError(
            "pipeline/definition.json is stale (pipeline.py, [tuning], or a name or type in [hyperparameters], is not "
            "what it was compiled from): run `sagegate compile` and commit it"
        )
    found = check_data(root, settings, environments[0])
    for doubt in pins.doubts(root, settings, any(environment.tracking for environment in environments)):
        warn(f"warning: {doubt}")
    differing = list(pins.differences(root))
    for difference in differing:
        print(difference, file=sys.stderr)
    if differing:
        raise SagegateError(
            f"versions that differ from the image's: {len(differing)}: jobs would not run what you test"
        )
    if settings.image:
        print(f"image: compared with {pins.REQUIREMENTS}; what else image/Dockerfile changes is not known")
    print(f"ok: {len(definition.steps_of(compiled))} steps, {len(compiled['Parameters'])} parameters, {found}")


def request_errors(compiled: Json, settings: Settings, environments: list[Environment]) -> Iterator[str]:
    """Yield what SageMaker would refuse in the jobs and the endpoint of an environment, with the file to look in."""
    defaults = {p["Name"]: p["DefaultValue"] for p in compiled.get("Parameters") or [] if "DefaultValue" in p}
    found: dict[str, list[str]] = {}
    for environment in environments:
        file = f"environments/{environment.name}.toml"
        names = Names(settings.project.name, environment.name, environment.account_id, environment.region)
        data = parameters.Data(f"{names.artifacts}/raw", "0" * 16, {})
        values = defaults | parameters.environment_values(settings, environment, names, data, {}, "0" * 40)
        for error in shapes.argument_errors(parameters.apply_environment(compiled, environment), values):
            found.setdefault(error, []).append(file)
        kind = "TransformInstanceType" if environment.endpoint.mode == "batch" else "ProductionVariantInstanceType"
        shape = shapes.service_model("sagemaker").shape_for(kind)
        for error in shapes.limit_errors(environment.endpoint.instance_type, shape, "endpoint.instance_type"):
            yield f"{file}: {error}"
    for error, files in found.items():
        if any(error.endswith(f"(parameter {name})") for name in settings.hyperparameters):
            files = ["mlops.toml"]
        elif len(files) == len(environments):
            files = ["pipeline/definition.json"]
        yield f"{', '.join(files)}: {error}"
