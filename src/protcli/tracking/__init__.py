"""The only floor that imports mlflow: where runs are kept, how one is written, how one is read again."""
