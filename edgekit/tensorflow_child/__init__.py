"""The process that runs TensorFlow: ``python -m edgekit.tensorflow_child FOLDER``.

Nothing else in edgekit imports TensorFlow, Keras or tf2onnx. The parent's side is ``tensorflow_process``.
"""
