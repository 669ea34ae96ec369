"""Bad parameters of every command over the broker; the many are tests/unit/test_parameters.py's."""

import json
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from setpoint_contracts import COMMANDS
from tests.caller import Caller
from tests.integration.test_hostile import claims, sign_bytes
from tests.parameters import broken, names, schema_of, wrong_places

SAMPLES = 5


def samples(schema: dict[str, Any]) -> list[Any]:
    """Make some parameters that do not fit, the same ones each time."""
    made: list[Any] = []

    @given(broken(schema))
    @settings(max_examples=SAMPLES, derandomize=True, database=None, phases=[Phase.generate])
    def make(params: Any) -> None:
        made.append(params)

    make()
    return made


@pytest.mark.parametrize("command", COMMANDS)
async def test_what_does_not_fit_is_named(command: str, admin: Caller) -> None:
    """A caller is told which parameter does not fit, whatever is wrong with it; the daemon logs no failure."""
    schema, topic = schema_of(command), admin.topics.command(command)
    for number, params in enumerate(samples(schema)):
        jti = f"{command.replace('/', '-')}-{number}"
        reply = await admin.exchange(topic, sign_bytes(admin.token, claims(topic, jti, json.dumps(params).encode())))
        assert reply.error is not None
        assert reply.error.code == "bad_request"
        fields = [misfit["field"] for misfit in reply.error.details["errors"]]
        assert any(names(field, place) for field in fields for place in wrong_places(schema, params))
