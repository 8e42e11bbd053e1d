"""The actions on data sets and their samples."""
