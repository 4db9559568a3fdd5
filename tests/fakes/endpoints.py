"""SageMaker's models, endpoint configurations and endpoints: containers serve, and updates move traffic step by step.

Replaces operations of moto, which keeps records only. An endpoint has one variant, and a model one container. Source:
"Blue/Green Deployments" in the SageMaker developer guide.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, FakeEndpointConfig, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse

from fakes.containers import Container, Definition, StartFailed
from fakes.jobs import publish_log
from sagegate.files import Json

BUSY = ("Creating", "Updating", "RollingBack", "SystemUpdating", "Deleting")
TIME_SCALE = 0.001  # seconds here for each second of AWS's waits
THREADS: list[threading.Thread] = []


# --- traffic shifting --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Rollout:
    """Shares of the traffic that the new container takes, one after the other, for `wait` seconds each.

    The old container is kept for `keep` seconds more. An alarm of `alarms` rolls the update back.
    """

    shares: tuple[float, ...]
    wait: float
    keep: float
    alarms: tuple[str, ...]


def plan_rollout(config: Json | None) -> Rollout:
    """Return the steps of an UpdateEndpoint's DeploymentConfig (blue/green only)."""
    config = config or {}
    names = tuple(a["AlarmName"] for a in config.get("AutoRollbackConfiguration", {}).get("Alarms", []))
    policy = config.get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0})
    shares: tuple[float, ...] = (1.0,)
    if routing["Type"] == "CANARY":
        size = float(routing["CanarySize"]["Value"]) / 100
        shares = (size, 1.0)
    elif routing["Type"] == "LINEAR":
        size = float(routing["LinearStepSize"]["Value"]) / 100
        shares = (*(size * step for step in range(1, int(0.999 / size) + 1)), 1.0)
    wait, keep = routing["WaitIntervalInSeconds"], policy.get("TerminationWaitInSeconds", 0)
    return Rollout(shares, wait, keep, names)


def alarm_states(account: str, region: str) -> dict[str, str]:
    """Return the states of the CloudWatch alarms, which only SetAlarmState changes."""
    return {name: alarm.state_value for name, alarm in list(cloudwatch_backends[account][region].alarms.items())}


class Endpoint:
    """moto's record (which Describe shows) with the containers that serve it.

    `blue` serves. During an update `green` takes a share of the requests.
    """

    def __init__(self, record: FakeEndpoint, account: str, region: str) -> None:
        self.record = record
        self.name = str(record.endpoint_name)
        self.account = account
        self.region = region
        self.blue: Container | None = None
        self._green: Container | None = None
        self._share = 0.0
        self._debt = 0.0  # requests that green is due
        self._lock = threading.Lock()
        self._deleted = threading.Event()

    def enter(self) -> Container | None:
        """Return the container that takes the next request, None if there is none; the caller calls its `leave`."""
        with self._lock:
            container = self.blue
            if self._green:
                self._debt += self._share
                if self._debt >= 1 - 1e-9:
                    self._debt -= 1
                    container = self._green
            if container:
                container.enter()
            return container

    def _shift(self, blue: Container | None, green: Container | None = None, share: float = 0.0) -> None:
        with self._lock:
            self.blue, self._green, self._share, self._debt = blue, green, share, 0.0

    def _show(self, status: str, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self.record, name, value)
        self.record.last_modified_time = utcnow()
        self.record.endpoint_status = status

    def create(self, container: Container) -> None:
        """Start the container: InService or Failed."""
        try:
            container.start()
        except StartFailed as error:
            container.stop()
            self._publish_log(container)
            self._show("Failed", failure_reason=str(error))
            return
        self._publish_log(container)
        self._shift(container)
        if self._deleted.is_set():
            self._shift(None)
            container.stop()
        else:
            self._show("InService", failure_reason=None)

    def begin_update(self, green: Container) -> None:
        """Show Updating."""
        pending = {"EndpointConfigName": green.config_name, "StartTime": utcnow()}
        self._show("Updating", pending_deployment_summary=pending, failure_reason=None)

    def update(self, green: Container, rollout: Rollout) -> None:
        """Shift traffic to `green`: InService with its configuration, or RollingBack and InService with the old one."""
        try:
            green.start()
            self._publish_log(green)
            reason = self._watch(0, rollout)
            for share in rollout.shares if not reason else ():
                self._shift(self.blue, green, share)
                reason = self._watch(rollout.wait * TIME_SCALE, rollout)
                if reason:
                    break
        except StartFailed as error:
            self._publish_log(green)
            reason = str(error)
        if reason:
            self._show("RollingBack")
            self._shift(self.blue)
            green.stop()
            self._show("InService", failure_reason=reason, pending_deployment_summary=None)
            return
        blue = self.blue
        self._shift(green)
        self._deleted.wait(rollout.keep * TIME_SCALE)
        if blue:
            blue.stop()
        self._show("InService", pending_deployment_summary=None, **record_fields(green))

    def _watch(self, seconds: float, rollout: Rollout) -> str | None:
        """Watch the alarms for `seconds`; return the reason to roll back, or None."""
        end = time.monotonic() + seconds
        while True:
            over = time.monotonic() >= end or self._deleted.is_set()
            states = alarm_states(self.account, self.region)
            if ringing := [name for name in rollout.alarms if states.get(name) == "ALARM"]:
                # AWS does not document its own words.
                return f"Deployment rolled back: CloudWatch alarm(s) [{', '.join(ringing)}] went into ALARM state."
            if over:
                return None
            self._deleted.wait(min(0.02, max(0.001, end - time.monotonic())))

    def abandon(self) -> None:
        """Do not wait for traffic to shift any longer."""
        self._deleted.set()

    def delete(self) -> None:
        """Stop serving once requests in flight are answered."""
        self.abandon()
        containers = [container for container in (self.blue, self._green) if container]
        self._shift(None)
        for container in containers:
            container.stop()

    def _publish_log(self, container: Container) -> None:
        stream = f"{container.variant}/i-{id(container):017x}"
        publish_log(self.account, self.region, f"/aws/sagemaker/Endpoints/{self.name}", stream, list(container.lines))


ENDPOINTS: dict[tuple[str, str, str], Endpoint] = {}  # by account, region and name


def run_in_thread(work: Callable[..., None], *arguments: Any) -> None:
    """Run a function in a thread that `reset` waits for."""
    thread = threading.Thread(target=work, args=arguments, name=f"endpoint {work.__name__}", daemon=True)
    THREADS[:] = [*(t for t in THREADS if t.is_alive()), thread]
    thread.start()


def reset() -> None:
    """Stop all endpoints."""
    for endpoint in list(ENDPOINTS.values()):
        endpoint.abandon()
    for thread in list(THREADS):
        thread.join()
    for endpoint in list(ENDPOINTS.values()):
        endpoint.delete()
    ENDPOINTS.clear()


# --- from records to containers ----------------------------------------------------------------------------------
def approved_package(backend: SageMakerModelBackend, name: str) -> Any:
    """Return a model package of any account; raises ValidationError unless it is Approved."""
    if name.startswith("arn:"):
        _, _, _, region, account, _ = name.split(":", 5)
        backend = sagemaker_backends[account][region]
    package = backend.describe_model_package(name)
    if package.model_approval_status != "Approved":
        # AWS rejects it ("Update the Approval Status of a Model"), but does not document the words.
        status = package.model_approval_status
        raise ValidationError(f"Model package '{package.arn}' has approval status {status}: it must be Approved.")
    return package


def container_of(backend: SageMakerModelBackend, model_name: str) -> Definition:
    """Return the container definition of a model; raises ValidationError."""
    model = backend.describe_model(model_name)
    container = model.primary_container or model.containers[0]
    environment = dict(container.get("Environment") or {})
    if "ModelPackageName" in container:
        package = approved_package(backend, container["ModelPackageName"])
        specification = package.inference_specification
        if name := container.get("InferenceSpecificationName"):
            added = {each["Name"]: each for each in package.additional_inference_specifications or []}
            if name not in added:
                raise ValidationError(f"Model package '{package.arn}' has no inference specification {name}.")
            specification = added[name]
        inside = specification["Containers"][0]
        return Definition(inside["ModelDataUrl"], {**(inside.get("Environment") or {}), **environment})
    return Definition(container["ModelDataUrl"], environment)


def new_container(backend: SageMakerModelBackend, config_name: str) -> Container:
    """Return a container for an endpoint configuration, not started; raises ValidationError."""
    config = backend.describe_endpoint_config(config_name)
    if len(config["ProductionVariants"]) != 1:
        raise ValidationError("The fake serves endpoint configurations with one variant only.")
    return Container(container_of(backend, config["ProductionVariants"][0]["ModelName"]), config_name, config)


def record_fields(container: Container) -> Json:
    """Return the fields of moto's record that follow from the configuration of the container that serves."""
    variant = container.config["ProductionVariants"][0]
    shown = {"VariantName": variant["VariantName"]}
    names = {"InitialInstanceCount": "InstanceCount", "InitialVariantWeight": "Weight"}
    for key, name in {**names, "ServerlessConfig": "ServerlessConfig"}.items():
        if key in variant:
            shown |= {f"Current{name}": variant[key], f"Desired{name}": variant[key]}
    return {
        "endpoint_config_name": container.config_name,
        "production_variants": [shown],
        "async_inference_config": container.config.get("AsyncInferenceConfig") or None,
    }


# --- operations --------------------------------------------------------------------------------------------------
CREATE_MODEL = SageMakerResponse.create_model


class Operations(SageMakerResponse):
    """Operations that replace those of moto's class."""

    def create_model(self) -> ActionResult:
        """CreateModel; a model package must be approved."""
        for container in [self._get_param("PrimaryContainer"), *(self._get_param("Containers") or [])]:
            if container and "ModelPackageName" in container:
                approved_package(self.sagemaker_backend, container["ModelPackageName"])
        return CREATE_MODEL(self)

    def create_endpoint(self) -> ActionResult:
        """CreateEndpoint: Creating, then InService or Failed."""
        name, config_name = self._get_param("EndpointName"), self._get_param("EndpointConfigName")
        backend = self.sagemaker_backend
        if name in backend.endpoints:
            raise ValidationError(f'Cannot create already existing endpoint "{backend.endpoints[name].arn}".')
        container = new_container(backend, config_name)
        record = backend.create_endpoint(name, config_name, self._get_param("Tags"))
        for field, value in record_fields(container).items():
            setattr(record, field, value)
        record.endpoint_status = "Creating"
        endpoint = Endpoint(record, self.current_account, self.region)
        ENDPOINTS[self.current_account, self.region, name] = endpoint
        run_in_thread(endpoint.create, container)
        return ActionResult({"EndpointArn": record.arn})

    def update_endpoint(self) -> ActionResult:
        """UpdateEndpoint: Updating, then InService with the new configuration or, after a rollback, the old one."""
        name, backend = self._get_param("EndpointName"), self.sagemaker_backend
        endpoint = ENDPOINTS.get((self.current_account, self.region, name))
        if endpoint is None or name not in backend.endpoints:
            arn = FakeEndpoint.arn_formatter(name, self.current_account, self.region)
            raise ValidationError(f'Could not find endpoint "{arn}".')
        record = endpoint.record
        if record.endpoint_status in BUSY:
            raise ValidationError(f'Cannot update in-progress endpoint "{record.arn}".')
        if record.endpoint_status != "InService":
            raise ValidationError(f'Cannot update endpoint "{record.arn}" in status {record.endpoint_status}.')
        container = new_container(backend, self._get_param("EndpointConfigName"))
        rollout = plan_rollout(self._get_param("DeploymentConfig"))
        states = alarm_states(self.current_account, self.region)
        if missing := [alarm for alarm in rollout.alarms if alarm not in states]:
            raise ValidationError(f"Could not find CloudWatch alarm(s) [{', '.join(missing)}].")
        record.last_deployment_config = self._get_param("DeploymentConfig")  # type: ignore[attr-defined]
        endpoint.begin_update(container)
        run_in_thread(endpoint.update, container, rollout)
        return ActionResult({"EndpointArn": record.arn})

    def delete_endpoint(self) -> EmptyResult:
        """DeleteEndpoint: Deleting, until requests in flight are answered."""
        name = self._get_param("EndpointName")
        key, endpoints = (self.current_account, self.region, name), self.sagemaker_backend.endpoints
        endpoint = ENDPOINTS.get(key)
        if endpoint is None or endpoint.record.endpoint_status == "Deleting":
            self.sagemaker_backend.delete_endpoint(name)
            return EmptyResult()
        endpoint.record.endpoint_status = "Deleting"

        def delete() -> None:
            endpoint.delete()
            endpoints.pop(name, None)
            ENDPOINTS.pop(key, None)

        run_in_thread(delete)
        return EmptyResult()


def install() -> None:
    """Patch moto."""
    for name in ("create_model", "create_endpoint", "update_endpoint", "delete_endpoint"):
        setattr(SageMakerResponse, name, Operations.__dict__[name])
    # moto's list of instance types is of 2020.
    FakeEndpointConfig.validate_instance_type = lambda *_: None  # type: ignore[method-assign]
