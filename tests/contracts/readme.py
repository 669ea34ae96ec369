"""The blocks of the pages in contracts/ that tests run as they stand."""

import re
from pathlib import Path

_CONTRACTS = Path(__file__).parents[2] / "contracts"


def page(name: str = "README.md") -> str:
    """Read a whole page."""
    return (_CONTRACTS / name).read_text("utf-8")


def blocks(language: str, name: str = "README.md") -> list[str]:
    """Read every block of one language on a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), flags=re.DOTALL | re.MULTILINE)


def shell_blocks() -> list[str]:
    """Read every block marked ``sh`` on the page for the shell, in order; the first one defines ``sign``."""
    return blocks("sh", "shell.md")
