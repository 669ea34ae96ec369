"""client/README.md to the letter: its Python, one snippet after the other, beside a running daemon."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.daemon import Daemon

PAGE = Path(__file__).parents[2] / "client" / "README.md"

# What `python -m asyncio` does with its input, without a terminal: await at the top, and values are printed.
INTERPRETER = """
import ast, asyncio, inspect, sys
async def main():
    names = {}
    for snippet in sys.stdin.read().split("\\0"):
        for statement in ast.parse(snippet).body:
            shown = isinstance(statement, ast.Expr)
            tree = ast.Expression(statement.value) if shown else ast.Module([statement], [])
            code = compile(tree, "README.md", "eval" if shown else "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            value = eval(code, names)
            value = await value if inspect.iscoroutine(value) else value
            if shown and value is not None:
                print(repr(value))
asyncio.run(main())
"""


def test_the_guide_works_as_it_stands(daemon: Daemon, tmp_path: Path) -> None:
    """Every snippet runs after those before it, and shows what the page says."""
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    where = {"SETPOINT_BROKER_URL": f"mqtt://{daemon.host}:{daemon.port}", "SETPOINT_TOKEN": str(daemon.token_path)}
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SETPOINT_INSTANCE": "pi-1", **where}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETER],
        input="\0".join(snippets),
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    printed = done.stdout
    for expected in (
        "(1, {'model': 'base', 'threads': 2})",
        "[('replace', '/model', 'base', 'small')]",
        "somebody was faster: 2",
        "not_found: there is no service nothing",
        "('small', 4)",
        "('live', 4, False)",
        "4 -> 4 ['/threads'] threads: Input should be a valid integer",
        "4 -> 8 ['/threads'] None",
        "[('pi-1', 7, 'applied')]",
        "('hunter2', \"Mail(host='mx', password=**********)\")",
        "'password': {'$secret': '",
        "('live', 2)",
    ):
        assert expected in printed, f"{expected!r} is not in:\n{printed}\n{done.stderr}"
    assert "hunter2" not in printed.replace("('hunter2',", "")
    assert "Traceback" not in done.stderr
