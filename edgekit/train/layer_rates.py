"""A learning rate for each layer, as large as its weights allow.

Adam moves every weight by about the learning rate, whatever its gradient. A first convolution that takes pixels in
0 to 255 has weights of a hundredth of the usual size, and a step of 0.001 ruins it.
"""

from typing import Any

import keras
import numpy as np

_STEEPNESS = 12.0


def with_layer_rates(optimizer: Any, model: Any) -> Any:
    """An optimizer of the same kind whose rate is scaled by min(1, 12 rms(kernel)) for each layer.

    Args:
        optimizer: A Keras optimizer; its own state is not taken over.
        model: The model as training begins: its kernels decide.
    """
    factors = layer_factors(model)

    class LayerRates(type(optimizer)):  # type: ignore[misc] # the class is the argument's
        """The optimizer, told a rate of its own for each variable."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """One step of one variable."""
            index = self._get_variable_index(variable)
            path = self._trainable_variables[index].path
            super().update_step(gradient, variable, learning_rate * factors.get(path, 1.0))

    return LayerRates.from_config(optimizer.get_config())


def layer_factors(model: Any) -> dict[str, float]:
    """The factor of each variable of a layer with a kernel, by the variable's path: ``{"conv1/kernel": 0.2}``."""
    factors: dict[str, float] = {}
    for layer in model._flatten_layers():
        kernels = [variable for variable in layer.trainable_variables if variable.name == "kernel"]
        if not kernels or isinstance(layer, keras.Model):
            continue
        values = np.concatenate([np.ravel(np.asarray(kernel)) for kernel in kernels])
        factor = min(1.0, _STEEPNESS * float(np.sqrt(np.mean(np.square(values)))))
        factors.update((variable.path, factor) for variable in layer.trainable_variables)
    return factors
