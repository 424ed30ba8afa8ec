"""Files of one operator, or of the few that it becomes, made by TensorFlow's converter: what rules are tried with."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

_IMAGE = (1, 8, 8, 4)
_SAMPLES = 4
_PRECISIONS = ("float", "dynamic", "int8")
_Shape = Sequence[int | None]
_Case = tuple[Callable[..., Any], Sequence[_Shape]]


def operator_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Precision and file, each made where it is not there; what the converter refuses is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (function, shapes) in _cases().items():
        for precision in _PRECISIONS:
            path = folder / f"{name}-{precision}.tflite"
            if not path.exists():
                try:
                    path.write_bytes(_converted(function, shapes, precision))
                except Exception as error:  # noqa: BLE001 - the converter raises whatever it likes
                    print(f"{path.name}: {str(error).splitlines()[0][:100]}")
                    continue
            yield precision, path


def _converted(function: Callable[..., Any], shapes: Sequence[_Shape], precision: str) -> bytes:
    signature = [tf.TensorSpec(shape) for shape in shapes]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], concrete)
    if precision != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "int8":
        generator = np.random.default_rng(0)

        def samples() -> Iterator[list[Any]]:
            for _ in range(_SAMPLES):
                yield [
                    generator.uniform(0.1, 1, [n or 1 for n in shape]).astype(np.float32) for shape in shapes
                ]

        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def _cases() -> dict[str, _Case]:
    return {
        name: (function, shapes or (_IMAGE,))
        for group in (_layers(), _reductions(), _arithmetic(), _activations(), _moves(), _odd_ones())
        for name, (function, *shapes) in group.items()
    }


def _weights(*shape: int) -> Any:
    return tf.constant(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def _layers() -> dict[str, Any]:
    nn, w = tf.nn, _weights

    def conv(x: Any, strides: Any = 1, padding: str = "SAME", **more: Any) -> Any:
        return nn.conv2d(x, w(3, 3, 4, 8), strides, padding, **more)

    activated = {
        f"conv_{name}": (lambda x, name=name: getattr(nn, name)(conv(x)),)
        for name in (
            "relu",
            "relu6",
            "tanh",
            "sigmoid",
            "elu",
            "leaky_relu",
            "gelu",
            "selu",
            "softplus",
            "swish",
        )
    }
    return activated | {
        "conv_relu1": (lambda x: tf.minimum(tf.maximum(conv(x), -1.0), 1.0),),
        "conv_stride2": (lambda x: conv(x, 2, "VALID"),),
        "conv_stride2_1": (lambda x: conv(x, (2, 1), "VALID"),),
        "conv_dilated": (lambda x: conv(x, dilations=2),),
        "conv_group": (lambda x: nn.conv2d(x, w(3, 3, 2, 8), 1, "SAME"),),
        "conv_computed": (lambda x, k: nn.conv2d(x, k, 1, "SAME"), _IMAGE, (3, 3, 4, 8)),
        "conv1d": (lambda x: nn.conv1d(x, w(3, 4, 8), 1, "SAME"), (1, 16, 4)),
        "conv3d": (lambda x: nn.conv3d(x, w(3, 3, 3, 4, 8), (1,) * 5, "SAME"), (1, 8, 8, 8, 4)),
        "depthwise": (lambda x: nn.depthwise_conv2d(x, w(3, 3, 4, 1), (1,) * 4, "SAME"),),
        "depthwise_twice": (lambda x: nn.depthwise_conv2d(x, w(3, 3, 4, 2), (1,) * 4, "SAME"),),
        "depthwise_dilated": (
            lambda x: nn.depthwise_conv2d(x, w(3, 3, 4, 1), (1,) * 4, "SAME", dilations=(2, 2)),
        ),
        "transposed": (lambda x: nn.conv2d_transpose(x, w(3, 3, 8, 4), (1, 16, 16, 8), 2, "SAME"),),
        "transposed_valid": (lambda x: nn.conv2d_transpose(x, w(2, 2, 8, 4), (1, 16, 16, 8), 2, "VALID"),),
        "dense": (lambda x: tf.matmul(x, w(8, 4)), (1, 8)),
        "dense_relu": (lambda x: nn.relu(tf.matmul(x, w(8, 4))), (1, 8)),
        "dense_3d": (lambda x: tf.matmul(x, w(8, 4)), (1, 3, 8)),
        "dense_computed": (tf.matmul, (3, 8), (8, 5)),
        "products": (tf.matmul, (2, 3, 8), (2, 8, 5)),
        "products_b": (lambda x, y: tf.matmul(x, y, transpose_b=True), (2, 3, 8), (2, 5, 8)),
        "products_a": (lambda x, y: tf.matmul(x, y, transpose_a=True), (2, 8, 3), (2, 8, 5)),
        "free_batch": (conv, (None, 8, 8, 4)),
        "free_size": (conv, (1, None, None, 4)),
        "free_batch_dense": (lambda x: tf.matmul(x, w(8, 4)), (None, 8)),
    }


def _reductions() -> dict[str, Any]:
    axes = [(1, 2), (1,), (2,), (3,), (0,), (1, 2, 3), (0, 1, 2, 3), (2, 3)]
    found: dict[str, Any] = {}
    for name in ("mean", "sum"):
        reduce = getattr(tf, f"reduce_{name}")
        for axis in axes:
            for kept in (True, False):
                label = f"{name}_{''.join(map(str, axis))}{'_kept' if kept else ''}"
                found[label] = (lambda x, f=reduce, a=axis, k=kept: f(x, a, k),)
    pools = {"average": tf.nn.avg_pool2d, "max": tf.nn.max_pool2d}
    for name, pool in pools.items():
        for size, stride, padding in (
            (2, 2, "VALID"),
            (3, 2, "SAME"),
            (1, 2, "VALID"),
            (1, 1, "VALID"),
            (2, 3, "VALID"),
        ):
            found[f"{name}_pool_{size}_{stride}_{padding.lower()}"] = (
                lambda x, p=pool, s=size, t=stride, d=padding: p(x, s, t, d),
            )
    return found | {
        "reduce_max": (lambda x: tf.reduce_max(x, (1, 2), True),),
        "reduce_min": (lambda x: tf.reduce_min(x, (1, 2), True),),
        "reduce_prod": (lambda x: tf.reduce_prod(x, 1),),
        "argmax": (lambda x: tf.argmax(x, -1, tf.int32),),
        "top_k": (lambda x: tf.math.top_k(x, 2)[0],),
        "cumsum": (lambda x: tf.cumsum(x, 1),),
        "layer_norm": (
            lambda x: (
                (x - tf.reduce_mean(x, -1, True)) / tf.sqrt(tf.math.reduce_variance(x, -1, True) + 1e-3)
            ),
        ),
    }


def _arithmetic() -> dict[str, Any]:
    two = {
        "add": tf.add,
        "subtract": tf.subtract,
        "multiply": tf.multiply,
        "divide": tf.divide,
        "maximum": tf.maximum,
        "minimum": tf.minimum,
        "squared_difference": tf.math.squared_difference,
        "pow": tf.pow,
        "floordiv": tf.math.floordiv,
        "floormod": tf.math.floormod,
    }
    found: dict[str, Any] = {}
    for name, function in two.items():
        found[f"{name}_two"] = (function, _IMAGE, _IMAGE)
        found[f"{name}_constant"] = (lambda x, f=function: f(x, _weights(4)),)
        found[f"{name}_scalar"] = (lambda x, f=function: f(x, 0.37),)
        found[f"{name}_broadcast"] = (function, _IMAGE, (1, 1, 1, 4))
        found[f"{name}_relu6"] = (lambda x, y, f=function: tf.nn.relu6(f(x, y)), _IMAGE, _IMAGE)
    for rank in (5, 6, 7):
        shape = (1, 2, 2, 2, 3, 2, 2)[:rank]
        found[f"add_rank{rank}"] = (tf.add, shape, shape)
    return found | {"add_rank0": (tf.add, (), ())}


def _activations() -> dict[str, Any]:
    math = "abs ceil floor round exp log sqrt rsqrt square sin cos tanh sigmoid negative sign expm1 log1p reciprocal"
    nn = "relu relu6 elu leaky_relu gelu selu swish softmax log_softmax softplus softsign crelu l2_normalize lrn"
    found: dict[str, Any] = {name: (getattr(tf.math, name),) for name in math.split()}
    found |= {name: (getattr(tf.nn, name),) for name in nn.split() if name != "l2_normalize"}
    return found | {
        "l2_normalize": (lambda x: tf.nn.l2_normalize(x, -1),),
        "gelu_tanh": (lambda x: tf.nn.gelu(x, approximate=True),),
        "relu_0_1": (lambda x: tf.clip_by_value(x, 0.0, 1.0),),
        "relu_n1_1": (lambda x: tf.clip_by_value(x, -1.0, 1.0),),
        "clip": (lambda x: tf.clip_by_value(x, -2.0, 3.0),),
        "hard_swish": (lambda x: x * tf.nn.relu6(x + 3.0) * (1 / 6.0),),
        "softmax_axis1": (lambda x: tf.nn.softmax(x, 1),),
        "softmax_rank1": (tf.nn.softmax, (4,)),
        "softmax_rank3": (tf.nn.softmax, (1, 3, 4)),
    }


def _moves() -> dict[str, Any]:
    edge = ((0, 0), (1, 1), (1, 1), (0, 0))
    found: dict[str, Any] = {
        f"concat{count}": (lambda *x: tf.concat(x, -1), *[_IMAGE] * count) for count in (2, 3, 4, 5, 6)
    }
    found |= {f"split{count}": (lambda x, n=count: tuple(tf.split(x, n, -1)),) for count in (2, 4)}
    return found | {
        "split8": (lambda x: tuple(tf.split(x, 8, 1)),),
        "split_sizes": (lambda x: tuple(tf.split(x, [1, 3], -1)),),
        "reshape": (lambda x: tf.reshape(x, (1, -1)),),
        "transpose": (lambda x: tf.transpose(x, (0, 3, 1, 2)),),
        "pad": (lambda x: tf.pad(x, edge),),
        "pad_ones": (lambda x: tf.pad(x, edge, constant_values=1.0),),
        "pad_mirror": (lambda x: tf.pad(x, edge, mode="REFLECT"),),
        "slice": (lambda x: tf.slice(x, (0, 1, 1, 0), (1, 4, 4, 4)),),
        "slice_plain": (lambda x: x[:, 1:5, 1:5, :],),
        "slice_steps": (lambda x: x[:, ::2, ::2, :],),
        "slice_removed": (lambda x: x[:, 0],),
        "slice_backwards": (lambda x: x[:, ::-1],),
        "resize_bilinear": (lambda x: tf.image.resize(x, (16, 16)),),
        "resize_nearest": (lambda x: tf.image.resize(x, (16, 16), "nearest"),),
        "resize_aligned": (lambda x: tf.compat.v1.image.resize_bilinear(x, (16, 16), align_corners=True),),
        "resize_smaller": (lambda x: tf.image.resize(x, (4, 4)),),
        "depth_to_space": (lambda x: tf.nn.depth_to_space(x, 2),),
        "space_to_depth": (lambda x: tf.nn.space_to_depth(x, 2),),
        "space_to_batch": (lambda x: tf.space_to_batch(x, (2, 2), ((0, 0), (0, 0))),),
        "expand_dims": (lambda x: tf.expand_dims(x, 1),),
        "squeeze": (lambda x: tf.squeeze(x, 0),),
        "stack": (lambda x, y: tf.stack([x, y], 1), _IMAGE, _IMAGE),
        "unstack": (lambda x: tuple(tf.unstack(x, axis=1)),),
        "tile": (lambda x: tf.tile(x, (1, 2, 2, 1)),),
        "broadcast_to": (lambda x: tf.broadcast_to(x, (3, 8, 8, 4)),),
        "gather": (lambda x: tf.gather(x, [1, 3], axis=1),),
        "gather_nd": (lambda x: tf.gather_nd(x, [[0, 1], [0, 2]]),),
        "reverse": (lambda x: tf.reverse(x, [1]),),
    }


def _odd_ones() -> dict[str, Any]:
    return {
        "cast": (lambda x: tf.cast(x, tf.int32),),
        "where": (lambda x, y: tf.where(x > y, x, y), _IMAGE, _IMAGE),
        "one_hot": (lambda x: tf.one_hot(tf.cast(x, tf.int32), 4), (1, 4)),
        "embedding": (lambda x: tf.gather(_weights(10, 4), tf.cast(x, tf.int32)), (1, 4)),
        "batch_norm": (lambda x: x * _weights(4) + _weights(4),),
        "scatter_nd": (lambda x: tf.scatter_nd([[1], [3]], x, (4, 3)), (2, 3)),
        "spectrum": (lambda x: tf.abs(tf.signal.rfft(x)), (1, 64)),
    }
