"""Choose the best run, register it, make it champion."""
