"""The page contracts/cookbook.md: every command, and what it says is what a daemon answers."""

import json
import re

from setpoint_contracts import COMMANDS
from tests.contracts.cookbook import PAGE, RECIPES, WIDTH, page
from tests.daemon import Daemon


async def test_the_page_is_what_a_daemon_answers(daemon: Daemon) -> None:
    """Run again on an empty store, the requests of the page get its replies."""
    assert await page(daemon) == PAGE.read_text("utf-8"), "run: .venv/bin/python -m tests.contracts.cookbook"


def test_no_command_is_left_out() -> None:
    """Every command has a request on the page, and each block is JSON that one can read."""
    assert {recipe.command for recipe in RECIPES} == COMMANDS.keys()
    text = PAGE.read_text("utf-8")
    blocks = re.findall(r"^```json\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(list(map(json.loads, blocks))) == 2 * len(RECIPES)
    assert max(map(len, text.splitlines())) <= WIDTH
