"""Checkpoint folders: saved, loaded, found, exported; torch or ONNX Runtime behind one call."""
