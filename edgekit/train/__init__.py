"""Training-aware compression of Keras 3 models, for edgekit's commands and for the user's own training loop.

Everything here works on a model in memory and imports TensorFlow when it is used::

    model = edgekit.train.apply_qat(keras.saving.load_model("model.keras"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=3)
    twin = edgekit.train.export_qat(model, "model.tflite")

``twin`` computes in Keras what the file computes in integers; ``model`` itself stays as it was trained.
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "ChannelOptions": "edgekit.train.channel_pruning",
    "Channels": "edgekit.train.channels",
    "ClusteredWeights": "edgekit.train.clustering",
    "DistillationOptions": "edgekit.train.distillation",
    "Graph": "edgekit.train.graph",
    "MagnitudePruning": "edgekit.train.magnitude",
    "PruningSchedule": "edgekit.train.magnitude",
    "QATOptions": "edgekit.train.qat",
    "TeacherOutput": "edgekit.train.distillation",
    "apply_distillation": "edgekit.train.distillation",
    "apply_qat": "edgekit.train.qat",
    "cluster_weights": "edgekit.train.clustering",
    "export_qat": "edgekit.train.export",
    "fold_batch_norm": "edgekit.train.batch_norm",
    "prune_channels": "edgekit.train.channel_pruning",
    "prune_magnitude": "edgekit.train.magnitude",
    "strip_clusters": "edgekit.train.clustering",
    "thin": "edgekit.train.width",
    "with_layer_rates": "edgekit.train.layer_rates",
}

__all__ = [
    "ChannelOptions",
    "Channels",
    "ClusteredWeights",
    "DistillationOptions",
    "Graph",
    "MagnitudePruning",
    "PruningSchedule",
    "QATOptions",
    "TeacherOutput",
    "apply_distillation",
    "apply_qat",
    "cluster_weights",
    "export_qat",
    "fold_batch_norm",
    "prune_channels",
    "prune_magnitude",
    "strip_clusters",
    "thin",
    "with_layer_rates",
]

if TYPE_CHECKING:
    from edgekit.train.batch_norm import fold_batch_norm
    from edgekit.train.channel_pruning import ChannelOptions, prune_channels
    from edgekit.train.channels import Channels
    from edgekit.train.clustering import ClusteredWeights, cluster_weights, strip_clusters
    from edgekit.train.distillation import DistillationOptions, TeacherOutput, apply_distillation
    from edgekit.train.export import export_qat
    from edgekit.train.graph import Graph
    from edgekit.train.layer_rates import with_layer_rates
    from edgekit.train.magnitude import MagnitudePruning, PruningSchedule, prune_magnitude
    from edgekit.train.qat import QATOptions, apply_qat
    from edgekit.train.width import thin


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
