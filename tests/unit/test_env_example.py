"""The .env.example that an operator copies."""

import re
from pathlib import Path

from setpointd.settings import SECRETS, Settings, variable

ENV_EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_env_example_names_every_setting_with_its_default() -> None:
    """Each variable that the daemon reads stands there, at the value that it has when not set; and no other does."""
    named = dict(re.findall(r"^#?(SETPOINT_\w+)=(.*)$", ENV_EXAMPLE.read_text(), flags=re.MULTILINE))
    expected = {variable(name): field.default for name, field in Settings.model_fields.items()}
    expected["SETPOINT_DATA_DIR"] = "/var/lib/setpoint"
    expected |= {variable(name) + "_FILE": None for name in SECRETS}
    assert named == {
        name: "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        for name, default in expected.items()
    }
