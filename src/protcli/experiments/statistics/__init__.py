"""Intervals: what a measured difference is worth."""
