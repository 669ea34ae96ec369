"""Files of the project that an installed wheel has too, beside its code."""

from importlib.resources import files
from pathlib import Path


def shipped(path: str) -> str:
    """Read a file by its path in the project."""
    beside = files("setpointd") / "data" / path
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    return (Path(__file__).parents[3] / path).read_text(encoding="utf-8")  # a work tree
