"""The process that runs PyTorch: ``python -m edgekit.torch_child FOLDER``.

Nothing else in edgekit imports PyTorch or litert-torch. The parent's side is ``torch_process``.
"""
