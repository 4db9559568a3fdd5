"""The first cases of each campaign."""

from pathlib import Path

import pytest

from campaigns.campaign import Campaign
from campaigns.catalog import CAMPAIGNS


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_the_first_cases_find_no_violation(campaign: Campaign, tmp_path: Path) -> None:
    with campaign.prepare(tmp_path) as case:
        for number in range(campaign.short):
            try:
                case(campaign.random(number))
            except Exception as error:
                raise AssertionError(f"`python tests/campaigns {campaign.name} --case {number}`: {error}") from error
