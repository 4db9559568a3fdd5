"""SageMaker's models, endpoint configurations and endpoints, where endpoints serve: what moto's operations lack.

`install` puts these operations in the place of moto's; `close` ends every process and puts moto's back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import botocore.session
from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import (
    FakeEndpoint,
    FakeEndpointConfig,
    ModelPackage,
    SageMakerModelBackend,
    sagemaker_backends,
)
from moto.sagemaker.responses import SageMakerResponse

from . import alarms
from .hosted import Endpoint
from .rollout import BadConfig, plan
from .serving import Fleet, Image

BUSY = ("Creating", "Updating", "RollingBack", "SystemUpdating", "Deleting")


class Endpoints:
    """Every endpoint that serves, by account, region and name; and the threads that change them."""

    def __init__(self) -> None:
        self._endpoints: dict[tuple[str, str, str], Endpoint] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def find(self, account: str, region: str, name: str) -> Endpoint | None:
        """The endpoint, whatever its status."""
        return self._endpoints.get((account, region, name))

    def add(self, endpoint: Endpoint) -> None:
        """Keep a new endpoint."""
        self._endpoints[endpoint.account, endpoint.region, endpoint.name] = endpoint

    def remove(self, endpoint: Endpoint) -> None:
        """Forget an endpoint."""
        self._endpoints.pop((endpoint.account, endpoint.region, endpoint.name), None)

    def go(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do something in the background."""
        thread = threading.Thread(target=work, args=arguments, name=f"endpoint {work.__name__}", daemon=True)
        with self._lock:
            self._threads = [*(t for t in self._threads if t.is_alive()), thread]
        thread.start()

    def reset(self) -> None:
        """End every process and every thread."""
        for endpoint in list(self._endpoints.values()):
            endpoint.abandon()
        for thread in list(self._threads):
            thread.join()
        for endpoint in list(self._endpoints.values()):
            endpoint.delete()
        self._endpoints.clear()


ENDPOINTS = Endpoints()


def package(backend: SageMakerModelBackend, name: str) -> ModelPackage:
    """The model package of that name or ARN, in whatever account it is; raises ValidationError unless Approved."""
    if name.startswith("arn:"):
        _, _, _, region, account, _ = name.split(":", 5)
        backend = sagemaker_backends[account][region]
    found = backend.describe_model_package(name)
    if found.model_approval_status != "Approved":
        # That it is refused is AWS's ("Update the Approval Status of a Model"); the wording is this fake's.
        status = found.model_approval_status
        raise ValidationError(f"Model package '{found.arn}' has approval status {status}: it must be Approved.")
    return found


def image(backend: SageMakerModelBackend, model_name: str) -> Image:
    """What the container of a model is made from."""
    model = backend.describe_model(model_name)
    containers = [model.primary_container] if model.primary_container else model.containers
    if len(containers) != 1:
        raise ValidationError(f"The fake serves models with one container, '{model_name}' has {len(containers)}.")
    container = containers[0]
    environment = dict(container.get("Environment") or {})
    if "ModelPackageName" in container:
        inside = package(backend, container["ModelPackageName"]).inference_specification["Containers"][0]
        return Image(inside["ModelDataUrl"], {**(inside.get("Environment") or {}), **environment})
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return Image(container.get("ModelDataUrl") or source.get("S3Uri", ""), environment)


def fleet_of(backend: SageMakerModelBackend, config_name: str) -> Fleet:
    """A fleet, not started, for an endpoint configuration."""
    config = backend.describe_endpoint_config(config_name)
    images = {v["VariantName"]: image(backend, v["ModelName"]) for v in config["ProductionVariants"]}
    return Fleet(config_name, config, images)


def presented(fleet: Fleet) -> dict[str, Any]:
    """The fields of moto's record that follow from the configuration that serves."""
    variants = []
    for variant in fleet.config["ProductionVariants"]:
        shown = {"VariantName": variant["VariantName"]}
        for theirs, ours in (
            ("InitialInstanceCount", "InstanceCount"),
            ("InitialVariantWeight", "Weight"),
            ("ServerlessConfig", "ServerlessConfig"),
        ):
            if theirs in variant:
                shown |= {f"Current{ours}": variant[theirs], f"Desired{ours}": variant[theirs]}
        variants.append(shown)
    capture = fleet.config.get("DataCaptureConfig") or {}
    summary = capture and {
        "EnableCapture": capture.get("EnableCapture", False),
        "CaptureStatus": "Started" if capture.get("EnableCapture") else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }
    return {
        "endpoint_config_name": fleet.config_name,
        "production_variants": variants,
        "data_capture_config": summary or None,
        "async_inference_config": fleet.config.get("AsyncInferenceConfig") or None,
    }


class Operations(SageMakerResponse):
    """The operations, to be put on moto's class."""

    def create_model(self) -> ActionResult:
        """Refuses a name that is taken, and a package that is not approved."""
        name = self._get_param("ModelName")
        backend = self.sagemaker_backend
        if name in backend._models:
            raise ValidationError(f'Cannot create already existing model "{backend._models[name].arn}".')
        for container in [self._get_param("PrimaryContainer"), *(self._get_param("Containers") or [])]:
            if container and "ModelPackageName" in container:
                package(backend, container["ModelPackageName"])
        return MOTO["create_model"](self)  # type: ignore[no-any-return]

    def create_endpoint_config(self) -> ActionResult:
        """Refuses a name that is taken."""
        known = self.sagemaker_backend.endpoint_configs.get(self._get_param("EndpointConfigName"))
        if known:
            arn = known.endpoint_config_arn
            raise ValidationError(f'Cannot create already existing endpoint configuration "{arn}".')
        return MOTO["create_endpoint_config"](self)  # type: ignore[no-any-return]

    def create_endpoint(self) -> ActionResult:
        """Creating; then InService or Failed."""
        name, config_name = self._get_param("EndpointName"), self._get_param("EndpointConfigName")
        backend = self.sagemaker_backend
        if name in backend.endpoints:
            raise ValidationError(f'Cannot create already existing endpoint "{backend.endpoints[name].arn}".')
        fleet = fleet_of(backend, config_name)
        record = backend.create_endpoint(name, config_name, self._get_param("Tags"))
        for field, value in presented(fleet).items():
            setattr(record, field, value)
        record.endpoint_status = "Creating"
        endpoint = Endpoint(record, self.current_account, self.region)
        ENDPOINTS.add(endpoint)
        ENDPOINTS.go(endpoint.create, fleet)
        return ActionResult({"EndpointArn": record.arn})

    def update_endpoint(self) -> ActionResult:
        """Updating; then InService, with the new configuration or, rolled back, with the old."""
        name = self._get_param("EndpointName")
        backend = self.sagemaker_backend
        endpoint = ENDPOINTS.find(self.current_account, self.region, name)
        if endpoint is None or name not in backend.endpoints:
            arn = FakeEndpoint.arn_formatter(name, self.current_account, self.region)
            raise ValidationError(f'Could not find endpoint "{arn}".')
        record = endpoint.record
        if record.endpoint_status in BUSY:
            raise ValidationError(f'Cannot update in-progress endpoint "{record.arn}".')
        if record.endpoint_status != "InService":
            raise ValidationError(f'Cannot update endpoint "{record.arn}" in status {record.endpoint_status}.')
        fleet = fleet_of(backend, self._get_param("EndpointConfigName"))
        config = self._get_param("DeploymentConfig")
        if config is None and self._get_param("RetainDeploymentConfig"):
            config = getattr(record, "last_deployment_config", None)
        try:
            rollout = plan(config, fleet.config["ProductionVariants"][0].get("InitialInstanceCount", 1))
        except BadConfig as error:
            raise ValidationError(str(error)) from None
        if missing := alarms.absent(self.current_account, self.region, rollout.alarms):
            raise ValidationError(f"Could not find CloudWatch alarm(s) [{', '.join(missing)}].")
        record.last_deployment_config = config  # type: ignore[attr-defined]
        endpoint.begin_update(fleet)
        ENDPOINTS.go(endpoint.update, fleet, rollout, presented)
        return ActionResult({"EndpointArn": record.arn})

    def delete_endpoint(self) -> EmptyResult:
        """Deleting, until requests in flight are answered."""
        name = self._get_param("EndpointName")
        endpoint = ENDPOINTS.find(self.current_account, self.region, name)
        if endpoint is None or endpoint.record.endpoint_status == "Deleting":
            self.sagemaker_backend.delete_endpoint(name)
            return EmptyResult()
        endpoint.record.endpoint_status = "Deleting"
        ENDPOINTS.go(_delete, endpoint)
        return EmptyResult()


def _delete(endpoint: Endpoint) -> None:
    endpoint.delete()
    sagemaker_backends[endpoint.account][endpoint.region].endpoints.pop(endpoint.name, None)
    ENDPOINTS.remove(endpoint)


def _instance_type(_: FakeEndpointConfig, instance_type: str) -> None:
    """Known to botocore (moto's own list is of 2020)."""
    shape = botocore.session.get_session().get_service_model("sagemaker").shape_for("ProductionVariantInstanceType")
    if instance_type not in shape.enum:
        raise ValidationError(
            f"1 validation error detected: Value '{instance_type}' at 'productionVariants.1.member.instanceType' "
            f"failed to satisfy constraint: Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        )


NAMES = ("create_model", "create_endpoint_config", "create_endpoint", "update_endpoint", "delete_endpoint")
MOTO: dict[str, Any] = {}


def install() -> None:
    """Put the operations in the place of moto's."""
    for name in NAMES:
        MOTO[name] = getattr(SageMakerResponse, name, None)
        setattr(SageMakerResponse, name, Operations.__dict__[name])
    MOTO["validate_instance_type"] = FakeEndpointConfig.validate_instance_type
    FakeEndpointConfig.validate_instance_type = _instance_type  # type: ignore[method-assign, assignment]


def close() -> None:
    """End what serves; moto's operations are back."""
    ENDPOINTS.reset()
    FakeEndpointConfig.validate_instance_type = MOTO.pop("validate_instance_type")  # type: ignore[method-assign]
    for name in NAMES:
        operation = MOTO.pop(name)
        if operation is None:
            delattr(SageMakerResponse, name)
        else:
            setattr(SageMakerResponse, name, operation)
