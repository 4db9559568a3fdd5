"""All campaigns, in the order in which they run."""

from campaigns import data, definitions, gate_attacks, manifests, metrics, settings
from campaigns.campaign import Campaign

CAMPAIGNS: list[Campaign] = [
    definitions.CAMPAIGN,
    settings.CAMPAIGN,
    manifests.CAMPAIGN,
    data.CAMPAIGN,
    metrics.CAMPAIGN,
    gate_attacks.CAMPAIGN,
]
