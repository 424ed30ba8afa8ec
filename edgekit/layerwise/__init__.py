"""What the quantization of each layer does to a model's outputs: measured, ranked, and which layers to spare."""
