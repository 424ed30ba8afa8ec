"""Starts the child in which PyTorch runs."""

import os
import sys
from pathlib import Path

from edgekit.framework_child import serve

# PyTorch then unpickles tensors alone, whatever its own code asks for.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
serve(Path(sys.argv[1]), "edgekit.torch_child.serving")
