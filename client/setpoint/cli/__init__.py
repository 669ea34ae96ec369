"""``setpoint``, the command line: everything that the library does, for people and for scripts."""

_INTERRUPTED = 128 + 2  # as a shell reports a process that SIGINT ended


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        import click  # noqa: F401 - to see whether the extra is there
    except ImportError:
        import sys

        sys.stderr.write("setpoint: the extra `cli` is not installed\n  do: pip install 'DIR[cli]' (DIR: a clone)\n")
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    try:
        from setpoint.cli.app import run

        return run()
    except KeyboardInterrupt:  # while it was imported
        return _INTERRUPTED
