"""Compare finished runs."""
