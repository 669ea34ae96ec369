"""``setpoint``, the command line: everything that the library does, for people and for scripts."""


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        import click  # noqa: F401 - to see whether the extra is there
    except ImportError:
        import sys

        sys.stderr.write("setpoint: the command line is not installed\n  do: pip install 'setpoint[cli]'\n")
        return 2
    from setpoint.cli.app import run

    return run()
