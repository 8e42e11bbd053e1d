"""Slices of volumes for whoever looks at them."""
