"""Predict distance maps from sequences."""
