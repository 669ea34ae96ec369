"""Where the process of ``setpointd`` begins: it says what to install where the extra ``daemon`` is not there."""

import sys

_OWN = ("setpointd", "setpoint_contracts")
_NOT_INSTALLED = 2


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        from setpointd.operator.cli import main as run  # noqa: PLC0415 - what it needs may not be there

        return run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OWN:
            raise
        sys.stderr.write(
            f"setpointd: {error.name} is missing, of the extra `daemon`: pip install 'DIR[daemon]' (DIR: a clone)\n"
        )
        return _NOT_INSTALLED
