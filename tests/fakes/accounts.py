"""Credentials that say whose they are: an access key ends with its account, so that none has to be set up first.

moto wants a key of 20 characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from moto.iam import models

KEY = re.compile(r"STANDIN0(\d{12})")
DEFAULT_ACCOUNT, DEFAULT_REGION = "123456789012", "us-east-1"  # moto's own account


def environment(url: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> dict[str, str]:
    """The variables with which boto3, a CLI or a job talks to the fake as an account."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": f"STANDIN0{account_id}",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def install() -> Callable[[], None]:
    """Make moto read the account from such a key; the function that undoes it."""
    own = models.get_account_id_from

    def get_account_id_from(access_key: str) -> str:
        match = KEY.fullmatch(access_key)
        return match[1] if match else own(access_key)

    models.get_account_id_from = get_account_id_from

    def uninstall() -> None:
        models.get_account_id_from = own

    return uninstall
