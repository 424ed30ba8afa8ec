"""What executes a model: one file per runtime, each with ``open(artifact) -> Session``."""
