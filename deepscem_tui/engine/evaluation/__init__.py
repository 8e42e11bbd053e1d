"""The action `evaluate`, and what it measures voxel by voxel."""
