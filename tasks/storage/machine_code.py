"""Where numba keeps the machine code of average-files, in a tree that can be written."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "__pycache__" / "numba"
"""A folder of its own, since jobs may write to it: not beside the bytecode, which others import."""
