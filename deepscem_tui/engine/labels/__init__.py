"""Labels of samples: the files that they come from, and which part of a sample is labelled."""
