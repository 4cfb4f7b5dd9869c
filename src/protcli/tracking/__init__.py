"""The only package that imports mlflow: locates the run store, writes runs and reads them back."""
