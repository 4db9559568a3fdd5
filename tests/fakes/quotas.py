"""Service Quotas of SageMaker, which moto lacks: an account may have two instances of a type for each use.

`QUOTAS` may be changed by a test in this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from moto.servicequotas.responses import ServiceQuotasResponse

from sagegate.files import Json

USES = ("processing job", "training job", "spot training job", "transform job", "endpoint")
TYPES = ("ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge")
QUOTAS: dict[str, float] = {f"{kind} for {use} usage": 2.0 for kind in TYPES for use in USES}
PAGE = 5


def list_service_quotas(self: ServiceQuotasResponse) -> str:
    """A page of them, as ListServiceQuotas gives it."""
    asked = json.loads(self.body)
    found = sorted(QUOTAS.items()) if asked["ServiceCode"] == "sagemaker" else []
    start = int(asked.get("NextToken", 0))
    fields = ({"QuotaName": name, "ServiceCode": "sagemaker", "Value": value} for name, value in found)
    answer: Json = {"Quotas": list(fields)[start : start + PAGE]}
    if start + PAGE < len(found):
        answer["NextToken"] = str(start + PAGE)
    return json.dumps(answer)


def install() -> Callable[[], None]:
    """Answer so; the function that undoes it."""
    setattr(ServiceQuotasResponse, "list_service_quotas", list_service_quotas)  # noqa: B010 (moto does not have it)

    def uninstall() -> None:
        delattr(ServiceQuotasResponse, "list_service_quotas")

    return uninstall
