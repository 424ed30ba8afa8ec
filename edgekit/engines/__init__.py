"""Post-training quantizers, one file each: they turn a float model into a quantized file."""
