"""Give a ``.tflite`` file the signature that tools ask for by name."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from edgekit import flatbuffer

KEY = b"serving_default"


def add_signature(model: bytes) -> bytes:
    """Add the signature ``serving_default`` to a ``.tflite`` file that has no signature at all.

    Its names are the tensors' names, made fit for keyword arguments: ``serving_default_input:0`` becomes
    ``input``, ``StatefulPartitionedCall:1`` becomes ``StatefulPartitionedCall_1``.

    Args:
        model: The file's bytes.

    Returns:
        The new file's bytes, or ``model`` itself where it has a signature already.

    Raises:
        ModelError: The file is unreadable or too large.
    """
    if flatbuffer.read(model).signatureDefs:
        return model
    return flatbuffer.rewrite(model, _add)


def _add(tree: flatbuffer.Model) -> None:
    from ai_edge_litert import schema_py_generated as schema

    # The first subgraph is the one that runs; others are bodies of loops and conditions.
    graph = tree.subgraphs[0]

    def entries(indices: Iterable[int], kind: str) -> list[Any]:
        indices = [int(index) for index in indices]
        names = unique_names([graph.tensors[index].name or b"" for index in indices], kind)
        return [
            schema.TensorMapT(name=name.encode(), tensorIndex=index)
            for name, index in zip(names, indices, strict=True)
        ]

    signature = schema.SignatureDefT(
        inputs=entries(graph.inputs, "input"),
        outputs=entries(graph.outputs, "output"),
        signatureKey=KEY,
        subgraphIndex=0,
    )
    tree.signatureDefs = [signature]


def unique_names(names: Sequence[bytes], kind: str) -> list[str]:
    """Tensor names as distinct Python identifiers.

    >>> unique_names([b"serving_default_x:0", b"a/b:1", b"a_b:1", b""], "input")
    ['x', 'a_b_1', 'a_b_1_2', 'input_3']
    """
    chosen: list[str] = []
    for position, name in enumerate(names):
        text = name.decode(errors="replace").removeprefix("serving_default_").removesuffix(":0")
        base = re.sub(r"[^0-9A-Za-z_]+", "_", text).strip("_") or f"{kind}_{position}"
        base = f"{kind}_{base}" if base[0].isdigit() else base
        unique, count = base, 1
        while unique in chosen:
            count += 1
            unique = f"{base}_{count}"
        chosen.append(unique)
    return chosen
