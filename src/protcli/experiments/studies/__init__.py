"""Suites: many models and seeds, one question, one report."""
