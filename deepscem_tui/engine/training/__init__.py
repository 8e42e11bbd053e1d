"""The actions `train` and `show-augmentation`."""
