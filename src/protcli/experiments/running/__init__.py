"""Train one model into a complete run."""
