"""Sweeps: tune a model's learning rate, batch size and steps on families held out of the training split."""
