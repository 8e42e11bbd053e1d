"""Single objects of masks: found, cleaned, divided, measured and scored, slab by slab."""
