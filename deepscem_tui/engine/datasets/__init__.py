"""Data sets in DeepSCEM's HDF5 format: read, made, and changed in place."""
