"""Losses, optimisers, the training loop and checkpoints, independent of MLflow, plots and model names."""
