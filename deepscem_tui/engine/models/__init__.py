"""Models: their files, what these say, and the actions on them; what is in them is in `networks`."""
