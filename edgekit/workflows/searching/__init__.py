"""Quantizations tried side by side: what may vary, what each trial is made from, who runs it, what is kept of it."""
