"""Real stores in a directory of the test's own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from setpointd.records import Stamp
from setpointd.store import Store
from setpointd.store.files import open_writer
from tests.stores import new_store

STORE_ID = "725f141d-042e-4f72-828e-5d90ca2db912"
MADE_AT = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Make a new store."""
    new_store(tmp_path, Stamp(MADE_AT, "setpointd"), STORE_ID)
    return tmp_path


@pytest.fixture
async def store(data_dir: Path) -> AsyncIterator[Store]:
    """Open a new store as the daemon does."""
    opened = Store(data_dir)
    yield opened
    await opened.close()


@pytest.fixture
def db(data_dir: Path) -> Iterator[Database]:
    """Open the writing connection of a new store, without its thread."""
    opened = open_writer(data_dir)
    yield opened
    opened.close()
