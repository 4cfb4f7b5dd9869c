"""The pictures of a run and of a data set; the only floor that imports matplotlib."""
