"""What models are kept in: the model file, and ONNX for others."""
