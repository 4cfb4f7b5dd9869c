"""Score trained weights on a split."""
