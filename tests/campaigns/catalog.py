"""All campaigns, in the order in which they run."""

from importlib import import_module

from campaigns.campaign import Campaign

MODULES = (
    *("definitions", "settings", "manifests", "data", "metrics", "gate_attacks", "cache_edits", "clients", "bodies"),
    *("full_disk", "concurrent_commands", "kills", "aws_faults"),
)
CAMPAIGNS: list[Campaign] = [import_module(f"campaigns.{name}").CAMPAIGN for name in MODULES]
