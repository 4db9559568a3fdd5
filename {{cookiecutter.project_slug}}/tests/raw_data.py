"""The raw data on this machine: where `sagegate data` found it, or what mlops.toml names."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL, PROJECT = (
    tomllib.loads((ROOT / file).read_text(encoding="utf-8")) for file in ("environments/local.toml", "mlops.toml")
)
DATA = ROOT / (LOCAL.get("data_source") or PROJECT["data"]["source"])
