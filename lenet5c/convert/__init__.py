"""Networks from elsewhere: ONNX files, and weights of PyTorch."""
