"""The container image of every step and of serving: SageMaker's XGBoost image, or the project's own, made from it.

The project's pyproject.toml pins the image's versions, so local runs, training and serving do not differ.

Source of the accounts: "Docker registry paths and example code" in the SageMaker developer guide.
"""

import hashlib
from pathlib import Path

from sagegate.errors import USAGE, SagegateError
from sagegate.files import local_files
from sagegate.names import Names

IMAGE = "sagemaker-xgboost:3.2-0"
# What projects are likely to use of docker/xgboost/uv.lock in github.com/aws/deep-learning-containers, without the
# libraries that AWS raises under the same tag for the sake of security. Python is 3.12.
VERSIONS = {
    "joblib": "1.5.3",
    "matplotlib": "3.10.9",
    "numba": "0.65.1",
    "numpy": "2.1.0",
    "pandas": "2.2.3",
    "psutil": "7.0.0",
    "pyarrow": "22.0.0",
    "scikit-learn": "1.8.0",
    "scipy": "1.15.0",
    "xgboost": "3.2.0",
    "xgboost-cpu": "3.2.0",  # the same library without CUDA
}
ACCOUNTS = {
    "af-south-1": "510948584623",
    "ap-east-1": "651117190479",
    "ap-northeast-1": "354813040037",
    "ap-northeast-2": "366743142698",
    "ap-northeast-3": "867004704886",
    "ap-south-1": "720646828776",
    "ap-south-2": "628508329040",
    "ap-southeast-1": "121021644041",
    "ap-southeast-2": "783357654285",
    "ap-southeast-3": "951798379941",
    "ap-southeast-4": "106583098589",
    "ca-central-1": "341280168497",
    "ca-west-1": "190319476487",
    "cn-north-1": "450853457545",
    "cn-northwest-1": "451049120500",
    "eu-central-1": "492215442770",
    "eu-central-2": "680994064768",
    "eu-north-1": "662702820516",
    "eu-south-1": "978288397137",
    "eu-south-2": "104374241257",
    "eu-west-1": "141502667606",
    "eu-west-2": "764974769150",
    "eu-west-3": "659782779980",
    "il-central-1": "898809789911",
    "me-central-1": "272398656194",
    "me-south-1": "801668240914",
    "sa-east-1": "737474898029",
    "us-east-1": "683313688378",
    "us-east-2": "257758044811",
    "us-gov-east-1": "237065988967",
    "us-gov-west-1": "414596584902",
    "us-west-1": "746614075791",
    "us-west-2": "246618743249",
}


def image_uri(region: str) -> str:
    """Return the URI of SageMaker's image in a region. Raises SagegateError if AWS does not offer it there."""
    if region not in ACCOUNTS:
        raise SagegateError(f"region {region}: AWS offers {IMAGE} in {', '.join(ACCOUNTS)}", USAGE)
    return f"{_registry(ACCOUNTS[region], region)}/{IMAGE}"


def repository_uri(names: Names) -> str:
    """Return the URI of the ECR repository of the project's own image, without tag or digest."""
    return f"{_registry(names.account_id, names.region)}/{names.image_repository}"


def source_digest(root: Path) -> str | None:
    """Return the digest of what the project's own image is made from, or None if there is no image/Dockerfile."""
    if not (root / "image" / "Dockerfile").is_file():
        return None
    lines = [IMAGE]
    for name, file in local_files(root / "image"):
        lines.append(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _registry(account_id: str, region: str) -> str:
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{account_id}.dkr.ecr.{region}.{suffix}"
