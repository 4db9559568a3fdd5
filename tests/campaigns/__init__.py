"""Campaigns: many small attacks, each made from a number, none of which may find a violation.

`make campaigns` runs them whole, `make test` runs the first cases of each. docs/reliability.md has the figures.
"""
