"""All campaigns, in the order in which they run."""

from campaigns import (
    cache_edits,
    concurrent_commands,
    data,
    definitions,
    full_disk,
    gate_attacks,
    kills,
    manifests,
    metrics,
    settings,
)
from campaigns.campaign import Campaign

CAMPAIGNS: list[Campaign] = [
    definitions.CAMPAIGN,
    settings.CAMPAIGN,
    manifests.CAMPAIGN,
    data.CAMPAIGN,
    metrics.CAMPAIGN,
    gate_attacks.CAMPAIGN,
    cache_edits.CAMPAIGN,
    kills.CAMPAIGN,
    concurrent_commands.CAMPAIGN,
    full_disk.CAMPAIGN,
]
