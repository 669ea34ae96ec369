"""Bad parameters of every command, made from the JSON Schemas, through the pipeline to a real store (row 12)."""

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from setpoint_contracts import COMMANDS, Reply
from setpointd.records import Stamp
from setpointd.store import Store
from tests.caller import may_give
from tests.integration.test_hostile import sign_bytes
from tests.parameters import broken, fitting, names, schema_of, wrong_places
from tests.stores import new_store
from tests.unit.claims import TOPICS
from tests.unit.test_pipeline import ALICE, Desk

Ask = Callable[[str, str], Reply]

# What no JSON of the wire may hold, anywhere (section 2).
NO_JSON = [
    "9223372036854775808",  # an integer beyond 64 bits
    "1" * 5000,
    "1e400",
    "NaN",
    "[" * 33 + "]" * 33,
    '"\\ud800"',  # half a character
    '{"a":1,"a":2}',
]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Send commands, with their parameters as text, to a daemon that has some services; each a second later."""
    directory = tmp_path_factory.mktemp("store")
    new_store(directory, Stamp("2026-01-01T00:00:00.000Z", "setpointd"))
    numbers = count()
    with asyncio.Runner() as runner:
        desk = runner.run(_open(directory))

        def ask(command: str, params: str) -> Reply:
            desk.now += 1
            head = json.dumps({"jti": f"j-{next(numbers)}", "aud": TOPICS.command(command), "iat": desk.now})
            claims = f'{head[:-1]},"exp":{desk.now + 60},"params":{params}}}'
            reply = runner.run(desk.send(sign_bytes(ALICE, claims.encode()).encode(), command))
            return Reply.model_validate_json(reply or b"")

        for service in ("stt", "tts"):
            assert ask("set", json.dumps({"service": service, "config": {"model": "small"}})).ok
        yield ask
        runner.run(desk.store.close())


async def _open(directory: Path) -> Desk:
    return Desk(Store(directory))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_does_not_fit_is_named(command: str, ask: Ask) -> None:
    """Wherever parameters do not fit their schema, they are a bad request, and one of its errors names the place."""
    schema = schema_of(command)

    @given(broken(schema))
    @settings(max_examples=60)
    def refused(params: Any) -> None:
        error = ask(command, json.dumps(params)).error
        assert error is not None
        assert error.code == "bad_request", error
        fields = [misfit["field"] for misfit in error.details["errors"]]
        assert any(names(field, place) for field in fields for place in wrong_places(schema, params))

    refused()


@pytest.mark.parametrize("command", COMMANDS)
def test_what_fits_is_never_a_fault(command: str, ask: Ask) -> None:
    """Whatever fits its schema is carried out, or refused with an error that the command declares; never a fault."""

    @given(fitting(schema_of(command)))
    @settings(max_examples=60)
    def answered(params: Any) -> None:
        error = ask(command, json.dumps(params)).error
        assert error is None or (error.code != "internal" and may_give(command, error)), error

    answered()


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_wire_cannot_say_is_a_bad_request(command: str, ask: Ask) -> None:
    """In the place of any parameter, what is no JSON of the wire makes the whole a bad request."""
    for name, value in product([*schema_of(command)["properties"], "unknown"], NO_JSON):
        error = ask(command, f'{{"{name}":{value}}}').error
        assert error is not None
        assert (error.code, error.details["errors"][0]["field"]) == ("bad_request", ""), error
