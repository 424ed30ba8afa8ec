"""Starts the child in which TensorFlow runs."""

import sys
from pathlib import Path

from edgekit.framework_child import serve

# Keras imports scikit-learn where it is installed, which takes up to two seconds and serves nothing here.
sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
serve(Path(sys.argv[1]), "edgekit.tensorflow_child.serving")
