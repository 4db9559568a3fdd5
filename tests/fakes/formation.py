"""What CloudFormation's operations share: the caller's clients, the request's template, and work in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import boto3
from botocore.config import Config
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.parsing import OutputMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.cloudformation.utils import generate_stack_id
from moto.iam.access_control import CreateAccessKeyFailure, create_access_key
from moto.utilities.utils import get_partition

from sagegate.files import Json

from . import planning, stacks, templates
from .planning import LiveStack, Map
from .resource_types import Clients
from .stacks import Run

BUSY = ("_IN_PROGRESS", "ROLLBACK_FAILED")
THREADS: list[threading.Thread] = []
URL: list[str] = []  # of the server through which resources are made


def go(work: Callable[[], Any]) -> None:
    """In the background."""
    thread = threading.Thread(target=work, name="stack", daemon=True)
    THREADS[:] = [*(t for t in THREADS if t.is_alive()), thread]
    thread.start()


def names_of(stack: LiveStack, template: Json, parameters: dict[str, str], exports: Any) -> Map:
    """moto's resolution of a template's names, with nothing made yet."""
    names = Map(
        stack.stack_id, stack.name, parameters, stack.tags, stack.region_name, stack.account_id, template, exports
    )
    names.load()
    return names


def apply(
    backend: CloudFormationBackend, stack: LiveStack, body: str, parameters: dict[str, str], clients: Clients
) -> None:
    """Bring the stack to the template, in the background; its status has been set."""
    template = templates.parse(body)
    names = names_of(stack, template, parameters, backend.exports)
    if stack.status.startswith("CREATE"):
        stack.resource_map, stack.output_map = names, OutputMap(names, {}, stack.stack_id)

    def finish() -> None:
        stack.template, stack.template_dict, stack.parameters = body, template, parameters
        stack.description = template.get("Description")
        stack.resource_map = names
        stacks.outputs(stack)
        backend.exports.update({export.name: export for export in stack.exports})

    go(lambda: Run(stack, clients, finish).deploy(template, names))


class Shared(CloudFormationResponse):
    """Helpers, to be put on moto's class with the operations."""

    def _clients(self) -> Clients:
        """Clients with the caller's credentials, as CloudFormation uses them without a role of its own."""
        headers = dict(self.headers.items())
        token = self.headers.get("X-Amz-Security-Token")
        if token:
            headers["X-Amz-Security-Token"] = token
        access, secret = self.get_access_key(), "secret"
        try:
            key = create_access_key(self.current_account, get_partition(self.region), access, headers)
            secret = key.create_credentials().secret_key
        except CreateAccessKeyFailure:
            pass  # moto knows no such key and does not ask for one: any secret will do
        region, url, kept = self.region, URL[-1], {}
        session = boto3.Session(access, secret, token, region_name=region)
        config = Config(retries={"total_max_attempts": 1})

        def client(service: str) -> Any:
            if service not in kept:
                kept[service] = session.client(service, endpoint_url=url, config=config)
            return kept[service]

        return client

    def _body(self, stack: LiveStack | None = None) -> str:
        """The request's template."""
        if self._get_bool_param("UsePreviousTemplate", False) and stack:
            return str(stack.template)
        body = self._get_param("TemplateBody") or ""
        if url := self._get_param("TemplateURL"):
            body = self._get_stack_from_s3_url(url)
        if not body:
            raise ValidationError(message="Either Template URL or Template Body must be specified.")
        return body

    def _checked(self, body: str, stack: LiveStack | None) -> dict[str, str]:
        """The parameters; raises for what CloudFormation refuses before it begins."""
        template = templates.parse(body)
        templates.check_capabilities(template, self._get_param("Capabilities", []))
        previous = stack.parameters if stack else {}
        return templates.parameters(self._get_param("Parameters", []), template, previous)

    def _new_stack(self) -> LiveStack:
        """A stack without resources, not registered yet."""
        tags = {item["Key"]: item["Value"] for item in self._get_param("Tags", [])}
        name = self._get_param("StackName")
        identity = generate_stack_id(name, self.region, self.current_account)
        stack = LiveStack(
            identity, name, {}, {}, self.current_account, self.region, self._get_param("NotificationARNs", []), tags
        )
        return stack

    def _busy(self, stack: LiveStack) -> None:
        """Raises if the stack cannot be updated now."""
        if stack.status.endswith(BUSY) or stack.status == "ROLLBACK_COMPLETE":
            text = f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
            raise ValidationError(message=text)

    def _named(self) -> LiveStack | None:
        """The stack that the request names, if it exists."""
        name = self._get_param("StackName")
        known = cast(list[LiveStack], list(self.cloudformation_backend.stacks.values()))
        return next((stack for stack in known if name in (stack.name, stack.stack_id)), None)

    def _begin(self, stack: LiveStack, verb: str, body: str, parameters: dict[str, str]) -> None:
        Run(stack, self._clients()).status(f"{verb}_IN_PROGRESS", "User Initiated")
        apply(self.cloudformation_backend, stack, body, parameters, self._clients())

    def _changes(self, stack: LiveStack, body: str, parameters: dict[str, str]) -> list[planning.Change] | None:
        """What would change; None for nothing (outputs included)."""
        template = templates.parse(body)
        exports = self.cloudformation_backend.exports
        changes = planning.plan(stack, template, names_of(stack, template, parameters, exports))
        same = template.get("Outputs") == (stack.template_dict or {}).get("Outputs")
        return None if not changes and same else changes
