"""The container image of every step and of serving: SageMaker's XGBoost image.

It holds Python 3.12, xgboost 3.2.0, scikit-learn 1.8.0, pandas 2.2.3, numpy 2.1.0 and pyarrow 22.0.0. The project's
pyproject.toml pins the same versions, so local runs, training and serving do not differ.

Source of the accounts: "Docker registry paths and example code" in the SageMaker developer guide.
"""

from sagegate.errors import USAGE, SagegateError

IMAGE = "sagemaker-xgboost:3.2-0"
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
    """Return the image's URI in a region. Raises SagegateError if AWS does not offer it there."""
    if region not in ACCOUNTS:
        raise SagegateError(f"region {region}: AWS offers {IMAGE} in {', '.join(ACCOUNTS)}", USAGE)
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{ACCOUNTS[region]}.dkr.ecr.{region}.{suffix}/{IMAGE}"
