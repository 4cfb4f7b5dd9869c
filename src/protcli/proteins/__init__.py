"""The domain: proteins, their file formats, the store on disk, distance maps and metrics."""
