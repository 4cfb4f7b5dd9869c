"""Losses, optimisers, the loop and checkpoints. Knows tensors, not MLflow, plots or model names."""
