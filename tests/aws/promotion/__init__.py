"""Tests of promotion by pull request."""
