"""The domain: one protein, its files, its store on disk, its distance map and the metrics on it."""
