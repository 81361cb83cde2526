"""What models are kept in: the model file, ONNX, PyTorch's names."""
