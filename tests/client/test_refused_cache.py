"""A cache that cannot be trusted any more: what was pinned and seen does not begin anew for that."""

import json
import logging
from pathlib import Path

import pytest
from pydantic import BaseModel

from setpoint import NoConfig
from setpoint_contracts.keys import to_jwk
from tests.caller import calling
from tests.client.conftest import ClientOf
from tests.client.test_starts import Stt, bound_once, files
from tests.daemon import Daemon
from tests.impostor import say, strange_key
from tests.waiting import eventually


class Strict(BaseModel):
    """A model without defaults."""

    model: str


async def test_a_pinned_key_that_is_refused_reopens_no_first_use(
    daemon: Daemon, client_of: ClientOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger's key set is not pinned over a key that others may write: nothing is, and an error says what to do."""
    await bound_once(client_of, daemon)
    path = files(tmp_path) / "_keys.json"
    before = json.loads(path.read_text())
    path.chmod(0o664)
    kid, stranger = strange_key()
    public = {name: value for name, value in to_jwk(stranger.key).items() if name != "d"}
    async with calling(daemon) as admin:
        await say(admin.mqtt, daemon.topics.keys, {"keys": [{**public, "kid": kid, "alg": "Ed25519"}]}, (kid, stranger))
    async with client_of(daemon, token=daemon.new_token("e", "viewer", "--alg", "Ed25519")) as client:
        live = await client.bind("stt", Stt, timeout=1)
        assert (live.value, live.source, live.stale) == (Stt(), "defaults", True)
        with pytest.raises(NoConfig, match=r"the pinned key is not believed: .*_keys.json can be written by others; "):
            await client.bind("stt", Strict, timeout=0.5)
    assert json.loads(path.read_text()) == before
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.getMessage().endswith("make it yours alone, or remove it to pin the daemon's key anew, or give keys")


async def test_orders_that_cannot_be_read_are_not_forgotten(
    daemon: Daemon, client_of: ClientOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where others may write what was seen, it stays as it is, and the log says that nothing is kept."""
    await bound_once(client_of, daemon)
    path = files(tmp_path) / "_seen.json"
    before = path.read_bytes()
    path.chmod(0o664)
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        await client.set("stt", {"model": "large"})
        await eventually(lambda: live.value.model == "large", "it is applied all the same")
    assert path.read_bytes() == before
    assert "cannot be written" in caplog.text
    assert "_seen.json can be written by others" in caplog.text


async def test_a_folder_in_a_files_place_is_refused(daemon: Daemon, client_of: ClientOf, tmp_path: Path) -> None:
    """What is no file does not keep a client from opening, nor a service from its config."""
    await bound_once(client_of, daemon)
    for name in ("stt.json", "_seen.json"):
        (files(tmp_path) / name).unlink()
        (files(tmp_path) / name).mkdir()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value.model, live.source) == ("small", "live")
        assert "is no plain file" in str(live.refused)
