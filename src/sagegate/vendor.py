"""Copy the installed sagegate into the project as a wheel, so that installing needs nothing but the repository."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from sagegate.errors import SagegateError
from sagegate.files import write_atomically

DEPENDENCY = re.compile(r'(?m)^(\s*)"sagegate\b[^"]*"')
SOURCES = re.compile(r"(?m)^\[tool\.uv\.sources\]")
SOURCE = re.compile(r"(?m)^sagegate = \{ path = .*\}$")
# What an installer adds beside the files of the wheel.
INSTALLER_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json")


def vendor(root: Path) -> Path:
    """Write the wheel to `vendor/` and depend on it in pyproject.toml; return the wheel's path.

    The version gets a local label (PEP 440), which no public index accepts, so `sagegate==0.1.0+vendored.1a2b3c4d` can
    only be this wheel. Raises SagegateError if sagegate is an editable installation, or no dependency of the project.
    """
    project = root / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    if not DEPENDENCY.search(text):
        raise SagegateError('pyproject.toml: there is no dependency "sagegate": add it to [project] dependencies')
    installed = distribution("sagegate")
    files = wheel_files(installed)
    code = [name.encode() + content for name, content in sorted(files.items()) if name.startswith("sagegate/")]
    digest = hashlib.sha256(b"".join(code)).hexdigest()
    version = f"{installed.version.partition('+')[0]}+vendored.{digest[:8]}"
    wheel = root / "vendor" / f"sagegate-{version}-py3-none-any.whl"
    write_wheel(wheel, files, installed.version, version)
    for old in set(wheel.parent.glob("sagegate-*.whl")) - {wheel}:
        old.unlink()
    source = f'sagegate = {{ path = "vendor/{wheel.name}" }}'
    text = DEPENDENCY.sub(rf'\1"sagegate=={version}"', text, count=1)
    if SOURCE.search(text):
        text = SOURCE.sub(source, text)
    elif SOURCES.search(text):
        text = SOURCES.sub(f"[tool.uv.sources]\n{source}", text)
    else:
        text = f"{text.rstrip()}\n\n[tool.uv.sources]\n{source}\n"
    write_atomically(project, text.encode())
    return wheel


def wheel_files(installed: Distribution) -> dict[str, bytes]:
    """Return the files of the wheel that `installed` was installed from: name inside the wheel -> content."""
    address = json.loads(installed.read_text("direct_url.json") or "{}")
    if address.get("dir_info", {}).get("editable") or not installed.files:
        raise SagegateError("sagegate is an editable installation: install it from its address, then run this again")
    names = [name for name in installed.files if name.suffix != ".pyc" and name.name not in INSTALLER_FILES]
    return {
        name.as_posix(): Path(str(name.locate())).read_bytes()
        for name in names
        if name.parts[0] == "sagegate" or name.parts[0].endswith(".dist-info")
    }


def write_wheel(wheel: Path, files: dict[str, bytes], old_version: str, version: str) -> None:
    """Write a wheel (binary distribution format, PEP 427) under another version; the same bytes for the same files."""
    old_folder, folder = f"sagegate-{old_version}.dist-info", f"sagegate-{version}.dist-info"
    contents = {name.replace(old_folder, folder, 1): content for name, content in files.items()}
    metadata = contents[f"{folder}/METADATA"].decode()
    metadata = metadata.replace(f"\nVersion: {old_version}\n", f"\nVersion: {version}\n", 1)
    contents[f"{folder}/METADATA"] = metadata.encode()
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(contents.items())]
    contents[f"{folder}/RECORD"] = "\n".join([*record, f"{folder}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    write_atomically(wheel, packed.getvalue())


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
