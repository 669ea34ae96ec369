"""The blocks of contracts/README.md that tests run as they stand."""

import re
from pathlib import Path

_README = Path(__file__).parents[2] / "contracts" / "README.md"


def shell_blocks() -> list[str]:
    """Read every block marked ``sh``, in order; the first one defines ``sign``."""
    return re.findall(r"^```sh\n(.*?)^```$", _README.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
