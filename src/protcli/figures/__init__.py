"""Figures of runs and data sets; the only package that imports matplotlib."""
