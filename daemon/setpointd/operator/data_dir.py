"""``--data-dir``, of commands that need no other setting."""

from pathlib import Path

import click

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="SETPOINT_DATA_DIR",
    show_envvar=True,
    required=True,
    help="Directory with the store.",
)
"""Gives a command its parameter ``data_dir``."""
