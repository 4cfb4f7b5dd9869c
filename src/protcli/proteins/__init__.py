"""The domain: proteins, their file formats, the store on disk, distance maps and metrics."""

SAMPLE = "sample"  # name of the built-in synthetic data set
