"""Suites: one question, answered by many models and seeds in one report."""
