"""``setpointd run``: the daemon, with every setting as an option."""

import signal
from pathlib import Path
from typing import Any

import click

from setpointd import app
from setpointd.operator.options import TakesSettings, load
from setpointd.store.files import check_exists


@click.command("run", cls=TakesSettings)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings, named as here with _ for -.")
def command(config: Path | None, **settings: Any) -> int:
    """Run the daemon until SIGTERM or Ctrl-C.

    Each setting may also stand in the environment (its variable is named in brackets) or in the --config file; the
    command line is strongest, then the environment. SETPOINT_BROKER_FILE and SETPOINT_BROKER_PASSWORD_FILE name
    files that hold those two.
    """
    loaded = load(settings, config)
    check_exists(loaded.data_dir)
    # Until the daemon listens for it, Ctrl-C ends the process at once. Python's own way, an exception wherever the main
    # thread is just then, could leave a lock held that the daemon waits for ever after.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return app.main(loaded)
