"""Distance maps of sequences."""
