"""Compilers of accelerators: one file each, with ``compile(model, target, folder) -> Compilation``.

A compiler runs in a process of its own, which may crash, and its exit code is not believed: what it wrote is read.
"""
