"""Intervals: how certain a measured difference is."""
