"""Models for other programs: ONNX files, and packages for the BioImage Model Zoo."""
