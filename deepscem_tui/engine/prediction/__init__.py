"""The actions `predict` and `merge`."""
