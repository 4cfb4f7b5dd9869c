"""What trained weights score on a split."""
