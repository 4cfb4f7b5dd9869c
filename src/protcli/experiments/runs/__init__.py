"""A run's configuration, and how to get it back from MLflow."""
