"""Compilers of accelerators: one file each, with ``compile(model, target, folder, output) -> Compilation``.

``output`` is where the user wants it; a compiler works in ``folder``. ``beside(target)`` gives the suffixes of further
files. One that makes a folder names in ``MARK`` a file that every such folder has.

A compiler runs in a process of its own, which may crash, and its exit code is not believed: what it wrote is read.
"""
