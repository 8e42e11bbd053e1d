"""The action `plan`: a network and a training proposed for a data set and a machine."""
