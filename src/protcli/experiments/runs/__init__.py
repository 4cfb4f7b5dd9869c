"""What a run is: its configuration, and the way from MLflow back to it."""
