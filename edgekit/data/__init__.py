"""Samples as a stream: from .npz and .npy files, folders of images, TOML specs and users' functions.

Nothing here ever holds all samples: arrays are read chunk by chunk, compressed ones too.
"""

from edgekit.data.dataset import Dataset, open_dataset
from edgekit.data.sources import Batch, Source

__all__ = ["Batch", "Dataset", "Source", "open_dataset"]
