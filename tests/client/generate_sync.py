"""The methods of `setpoint.sync.Client`, made from those of `setpoint.commands`: the same words without asyncio."""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "client" / "setpoint"
WORDS = {
    r"\basync (?=def|for)": "",
    r"\bawait ": "",
    r"\bAsyncIterator\b": "Iterator",
    r"\bclass Commands\b": "class SyncCommands",
    r'^"""Every command of the wire \(section 6\) as a method\..*$': '"""Every command of the wire (section 6) as a'
    " method that waits. Made from commands.py by tests/contracts/generate.py.",
}


def generated() -> dict[Path, str]:
    """Build the file: its path and its text."""
    text = (CLIENT / "commands.py").read_text("utf-8")
    for pattern, word in WORDS.items():
        text, count = re.subn(pattern, word, text, flags=re.MULTILINE)
        assert count, pattern
    path = CLIENT / "sync_commands.py"
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    return {path: subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout}
