"""On a terminal and in a pipe: widths, colours, interruption, completion, and what a start costs."""

import json
import subprocess
import sys

import pytest

from tests.cli.command import Setpoint, Terminal
from tests.waiting import DEADLINE_S

LONG = {
    "model": "yolo-v8-nano-with-a-rather-long-name",
    "cameras": [{"name": f"camera-{n}", "fps": 15} for n in range(6)],
}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("no_color", ["", "1"])
def test_tables_fit_the_terminal(setpoint: Setpoint, service: str, columns: int, no_color: str) -> None:
    """No line is wider than the terminal; colours and weights are there unless NO_COLOR is set."""
    setpoint.ok("set", service, "-", "-q", "--reason", "The first config " * 9, stdin=json.dumps(LONG))
    for arguments in (("get", service), ("history", service, "--versions"), ("doctor",)):
        screen = setpoint.on_terminal(*arguments, columns=columns, NO_COLOR=no_color)
        assert screen.code == 0
        assert max(map(len, screen.lines)) <= columns
        assert bool(screen.colours) != bool(no_color)
        assert len(screen.lines) > 2


def test_help_fits_and_has_every_command(alone: Setpoint) -> None:
    """At 80 columns no line of any help is wider."""
    screen = alone.on_terminal("--help", columns=80)
    assert max(map(len, screen.lines)) <= 80
    names = "get set patch delete edit diff apply list search history restore profile schema token audit watch wait"
    names += " status info export import backup sign call context doctor completion"
    shown = {line.split()[0] for line in screen.lines if line.startswith("  ") and line.split()}
    assert set(names.split()) <= shown


def test_differences_and_json_are_coloured(setpoint: Setpoint, service: str) -> None:
    """Red is what was and green what is; the colours are of the terminal's own eight."""
    setpoint.ok("set", service, "a=1", "-q")
    screen = setpoint.on_terminal("set", service, "a=2")
    assert "\x1b[31m- /a: 1" in screen.text
    assert "\x1b[32m+ /a: 2" in screen.text
    assert screen.lines[-2].startswith(f"{service} · version 2 · ")
    shown = setpoint.on_terminal("get", service, "-o", "json")
    assert json.loads("\n".join(shown.lines))["config"] == {"a": 2}
    assert shown.colours
    past = setpoint.on_terminal("history", service)
    assert past.lines[1:3] == ["- /a: 1", "+ /a: 2"]


def test_a_config_cannot_steer_the_terminal(setpoint: Setpoint, service: str) -> None:
    """Escape sequences in a value are shown, not carried out."""
    evil = json.dumps({"a": "\x1b]0;title\x07", "b": "\x9b2J", "c": ["\u202egnp"]})
    setpoint.ok("set", service, "-", "-q", stdin=evil)
    for arguments in (("get", service), ("get", service, "-o", "json"), ("get", service, "-o", "yaml")):
        text = setpoint.on_terminal(*arguments).text
        assert not {"\x07", "\x9b", "\u202e"} & set(text)
        assert "\x1b]" not in text
    assert "\x9b" not in setpoint.on_terminal("diff", service, "--from", "\x9b2J").text


def test_a_pipe_gets_no_colours(setpoint: Setpoint, service: str) -> None:
    """Whatever TERM says, what is no terminal gets plain text."""
    setpoint.ok("set", service, "a=1", "-q")
    done = setpoint("set", service, "a=2", TERM="xterm-256color", FORCE_COLOR="1")
    assert "\x1b" not in done.stdout + done.stderr + setpoint.ok("get", service, "-o", "json", TERM="xterm-256color")


def test_a_reveal_on_a_terminal_warns(setpoint: Setpoint, service: str) -> None:
    """Who shows secrets on a terminal is told to mind who looks on."""
    setpoint.ok("schema", "set", service, "-", stdin='{"properties":{"p":{"writeOnly":true}}}')
    setpoint.ok("set", service, "p=hunter2", "-q")
    screen = setpoint.on_terminal("get", service, "--reveal")
    assert "mind who looks on" in screen.text
    assert "hunter2" in screen.text


def test_ctrl_c_ends_quietly(setpoint: Setpoint, service: str) -> None:
    """It ends with 130 and no word, at work or while no broker answers."""
    setpoint.ok("set", service, "a=1", "-q")
    with Terminal(setpoint, "watch", service) as terminal:
        terminal.read_until("version 1")
        terminal.type("\x03")
        screen = terminal.read_to_end()
    assert (screen.code, screen.lines[1:]) == (130, ["^C", ""])
    with Terminal(setpoint, "list", "--broker", "mqtt://127.0.0.1:1", "--timeout", 60) as terminal:
        terminal.read_until("trying for 60 s")
        terminal.type("\x03")
        screen = terminal.read_to_end()
    assert (screen.code, screen.lines[1:]) == (130, ["^C", ""])


def test_a_reader_that_leaves_ends_it_quietly(setpoint: Setpoint, service: str) -> None:
    """A broken pipe is no error to tell of."""
    setpoint.ok("set", service, "-", "-q", stdin=json.dumps({f"k{n}": "x" * 80 for n in range(900)}))
    done = setpoint.shell(f"setpoint get {service} | head -n 1; echo ${{PIPESTATUS[0]}}")
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "141"
    assert setpoint.shell("setpoint --help | true; echo ${PIPESTATUS[0]}").stdout == "141\n"


def test_streams_that_are_closed_or_narrow_are_no_faults(setpoint: Setpoint, service: str) -> None:
    """Without standard output, error or input it ends as it would; what an encoding lacks is escaped."""
    setpoint.ok("set", service, "a=道", "-q")
    for command, code in (
        (f"setpoint get {service} >&-", 0),
        ("setpoint list --timeout 0 2>/dev/full", 2),
        (f"setpoint set {service} - <&-", 2),
        (f"PYTHONIOENCODING=ascii setpoint get {service}", 0),
    ):
        done = setpoint.shell(f"{command}; echo $?")
        assert (done.stdout.splitlines()[-1], "Traceback" in done.stderr) == (str(code), False), command


def test_raw_is_raw(setpoint: Setpoint, service: str) -> None:
    """What colours a text in a value is in the output of -o raw, too."""
    setpoint.ok("set", service, "-", "-q", stdin=json.dumps({"a": "\x1b[31mred"}))
    assert setpoint.ok("get", service, "--key", "a", "-o", "raw") == "\x1b[31mred\n"


def test_help_imports_nothing_that_it_does_not_need() -> None:
    """For --help neither the client nor the contracts are imported, nor what draws tables or reads YAML."""
    script = (
        "import sys; from setpoint.cli import main; sys.argv = ['setpoint', '--help']; code = main();"
        " heavy = {'aiomqtt', 'paho', 'pydantic', 'setpoint_contracts', 'setpoint.client', 'rich', 'yaml', 'asyncio'};"
        " print(sorted(heavy & sys.modules.keys())); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_get_in_a_pipe_imports_nothing_for_terminals(setpoint: Setpoint, service: str) -> None:
    """What draws on a terminal and what reads YAML stay out: they would only cost time."""
    setpoint.ok("set", service, "a=1", "-q")
    script = (
        f"import sys; from setpoint.cli import main; sys.argv = ['setpoint', 'get', '{service}']; code = main();"
        " print(sorted({'rich', 'yaml', 'tomllib'} & sys.modules.keys())); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=setpoint.env, capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_shells_complete_commands_and_names(setpoint: Setpoint, service: str) -> None:
    """Commands are known; services and profiles are asked of the daemon, and none are named when it is silent."""
    for shell in ("bash", "zsh", "fish"):
        assert "_SETPOINT_COMPLETE" in setpoint.ok("completion", shell)

    def complete(*words: str, **env: str) -> list[str]:
        env |= {"_SETPOINT_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        done = setpoint(**env)
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    setpoint.ok("set", service, "a=1", "-q")
    setpoint.ok("profile", "save", f"night-{service}", service)
    setpoint.ok("profile", "save", f"night-{service} $(touch x)", service)
    assert complete("setpoint", "pro") == ["profile"]
    assert complete("setpoint", "get", service[:-2]) == [service]
    assert complete("setpoint", "profile", "load", f"night-{service}"[:-2]) == [f"night-{service}"]
    assert complete("setpoint", "get", "x", SETPOINT_BROKER_URL="mqtt://127.0.0.1:1") == []
    assert complete("setpoint", "get", "x", SETPOINT_TOKEN="/no/such") == []
