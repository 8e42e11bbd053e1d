"""The engine: data sets, networks, training, prediction and evaluation, with no knowledge of a terminal."""
