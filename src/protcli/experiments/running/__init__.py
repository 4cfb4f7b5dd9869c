"""Train one model and leave a complete run."""
