"""Where two models part: their inner tensors made visible, paired, compared and judged."""
