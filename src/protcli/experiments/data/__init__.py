"""Bring proteins in and look at them: fetch, import, inspect."""
