"""The commands as a whole: each can be loaded, and takes the common options beside its own."""

from collections.abc import Iterator

import click
import pytest

from setpoint.cli.app import COMMANDS, setpoint
from setpoint.cli.options import Options, common_options

GENERAL = {option.name for option in common_options()}


def _commands(name: str) -> Iterator[click.Command]:
    command = setpoint.get_command(click.Context(setpoint), name)
    assert command is not None
    yield command
    if isinstance(command, click.Group):
        yield from command.commands.values()


@pytest.mark.parametrize("name", COMMANDS)
def test_no_parameter_has_the_name_of_a_common_option(name: str) -> None:
    """A parameter of the same name would be taken for the option; and the first line of its help is in the overview."""
    for command in _commands(name):
        assert not GENERAL & {param.name for param in command.params}
        assert command.help
        assert len(command.help.split("\n\n")[0].split("\n")) <= 3
    assert vars(Options()).keys() == GENERAL
