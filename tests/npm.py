"""Packages from npm, for the tests that run another language's programs."""

import shutil
import subprocess
from pathlib import Path

import pytest

from setpointd import locks

MQTT = "mqtt@5.16.0"
_OPTIONS = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1")
_TIMEOUT_S = 200


def npm_install(config: pytest.Config, *packages: str) -> Path:
    """Install packages, once for all runs, into a directory of pytest's cache, for the programs in it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.fail(
                f"{program} is missing: install Node 18 or newer (Debian: apt install nodejs npm)", pytrace=False
            )
    assert config.cache is not None
    directory = config.cache.mkdir("npm-" + "-".join(package.strip("@").replace("/", "-") for package in packages))
    installed = directory / "installed"
    with locks.holding(directory / "lock", wait_s=_TIMEOUT_S + 60):  # tests that run side by side want the same
        if not installed.exists():
            _install(directory, packages)
            installed.touch()
    return directory


def _install(directory: Path, packages: tuple[str, ...]) -> None:
    command = ["npm", "install", "--loglevel=error", *_OPTIONS, "--prefix", str(directory), *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        failure = done.stderr if done.returncode else None
    except subprocess.TimeoutExpired:
        failure = f"nothing came within {_TIMEOUT_S} s"
    if failure is not None:
        reach = "is its registry within reach?"
        pytest.fail(f"npm could not install {' and '.join(packages)}; {reach}\n{failure}", pytrace=False)
