"""Small .tflite files written by hand, so that their arithmetic is known."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit import flatbuffer


class Made:
    """Builds a one-subgraph model operator by operator."""

    def __init__(self):
        self.tree = schema.ModelT(version=3, operatorCodes=[], buffers=[schema.BufferT()])
        self.graph = schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[], name=b"main")
        self.tree.subgraphs = [self.graph]

    def tensor(self, name, dtype, shape, *, scale=None, zero_point=0, values=None, signature=None):
        tensor = schema.TensorT(
            name=name.encode(),
            type=getattr(schema.TensorType, dtype.upper()),
            shape=list(shape),
            hasRank=True,
        )
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point])
        if values is not None:
            tensor.buffer = len(self.tree.buffers)
            data = np.frombuffer(np.asarray(values, dtype).tobytes(), np.uint8)
            self.tree.buffers.append(schema.BufferT(data=data))
        tensor.shapeSignature = None if signature is None else list(signature)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, name, inputs, outputs, options=None, *, version=1):
        self.tree.operatorCodes.append(
            schema.OperatorCodeT(
                deprecatedBuiltinCode=min(getattr(schema.BuiltinOperator, name), 127),
                builtinCode=getattr(schema.BuiltinOperator, name),
                version=version,
            )
        )
        kind = (
            0 if options is None else getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        )
        self.graph.operators.append(
            schema.OperatorT(
                opcodeIndex=len(self.tree.operatorCodes) - 1,
                inputs=list(inputs),
                outputs=list(outputs),
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )

    def signature(self, inputs, outputs, key="serving_default"):
        def entries(names):
            return [schema.TensorMapT(name=name.encode(), tensorIndex=index) for name, index in names.items()]

        self.tree.signatureDefs = [
            schema.SignatureDefT(
                inputs=entries(inputs), outputs=entries(outputs), signatureKey=key.encode(), subgraphIndex=0
            )
        ]

    def bytes(self):
        return flatbuffer.write(self.tree)
