"""What is given as values: pairs, files and standard input, in three formats."""

import io
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from setpoint.cli import values
from setpoint.cli.exits import Failed
from setpoint.cli.formats import parse, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("4.0", 4),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ('"80"', "80"),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("base", "base"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("a=b", "a=b"),
        ("", ""),
        (" x ", " x "),
        ("[1,", "[1,"),
        ("Straße", "Straße"),
    ],
)
def test_a_value_is_json_if_it_can_be_and_else_text(text: str, value: Any) -> None:
    """A value is what JSON reads, and what JSON cannot read is text as it stands."""
    found = values.config((f"key={text}",))["key"]
    assert (found, type(found)) == (value, type(value))


def test_values_are_put_together_in_their_order(tmp_path: Path) -> None:
    """A key that is given later stands for one that was given before, also one from a file."""
    file = tmp_path / "base.yaml"
    file.write_text("model: base\nthreads: 4\n", "utf-8")
    assert values.config((f"@{file}", "model=large", "x=1", "x=2")) == {"model": "large", "threads": 4, "x": 2}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"a": 1, "b": {"c": [true, null]}, "d": "x"}'),
        ("a.yaml", "a: 1\nb:\n  c: [true, null]\nd: x\n"),
        ("a.yml", "# remark\na: 0x1\nb: {c: [TRUE, ~]}\nd: 'x'\n"),
        ("none", "a: 1\nb: {c: [true, null]}\nd: x\n"),
        ("other", '{"a": 1, "b": {"c": [true, null]}, "d": "x"}'),
    ],
)
def test_files_are_read_by_their_suffix(tmp_path: Path, name: str, text: str) -> None:
    """JSON and YAML say the same, and a file without a suffix may hold either."""
    (tmp_path / name).write_text(text, "utf-8")
    assert values.config((f"@{tmp_path / name}",)) == {"a": 1, "b": {"c": [True, None]}, "d": "x"}


def test_toml_is_read_and_its_dates_become_texts() -> None:
    """What JSON has no word for is written as TOML writes it."""
    text = b"port = 1883\nsince = 2026-11-23\nat = 2026-11-23T10:00:00Z\n[vad]\nthreshold = 0.5\n"
    assert parse(text, ".toml", "f") == {
        "port": 1883,
        "since": "2026-11-23",
        "at": "2026-11-23T10:00:00+00:00",
        "vad": {"threshold": 0.5},
    }


@pytest.mark.parametrize(
    "text", ["no", "on", "yes", "off", "n", "1:30", "2026-01-01", "2026-01-01 10:00:00", "1_000", "0b1", "=", "0o9"]
)
def test_yaml_of_version_1_1_is_text(text: str) -> None:
    """What only YAML 1.1 takes for a boolean, a time or a number is text."""
    assert parse(f"key: {text}\n".encode(), ".yaml", "f") == {"key": text}


@pytest.mark.parametrize(
    ("text", "value"), [("0o17", 15), ("0x1F", 31), ("-12", -12), ("+3", 3), ("1e3", 1000), (".5", 0.5), ("", None)]
)
def test_yaml_numbers_are_those_of_version_1_2(text: str, value: Any) -> None:
    """Octal, hexadecimal and decimal numbers are read as YAML 1.2 has them."""
    assert parse(f"key: {text}\n".encode(), ".yaml", "f") == {"key": value}


def test_aliases_of_yaml_are_written_out() -> None:
    """An alias stands for what its anchor holds."""
    assert parse(b"a: &x {b: 1}\nc: *x\n", ".yaml", "f") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("suffix", "text", "why"),
    [
        (".json", b'{"a": 1,}', r"not JSON: .* \(line 1, column"),
        (".json", b'{"a": 1, "a": 2}', "a key stands twice"),
        (".json", b'{"a": 18446744073709551616}', "beyond 64 bits"),
        (".json", b"\xff", "not UTF-8"),
        (".yaml", b"a: [1\nb: 2\n", r"not YAML: .* \(line"),
        (".yaml", b"a: 1\na: 2\n", r"'a' stands twice \(line 2"),
        (".yaml", b"1: x\n", "a key that is no text"),
        (".yaml", b"a: .nan\n", "JSON cannot say"),
        (".yaml", b"a: !!python/object:os.system x\n", "the tag .* is none that JSON has"),
        (".yaml", b"a: !!binary aGk=\n", "the tag .* is none that JSON has"),
        (".yaml", b"a: &x [*x]\n", ""),
        (".yaml", b"[" * 10_000, ""),
        (".yaml", b"a: 99999999999999999999\n", "beyond 64 bits"),
        (".yaml", b'a: "\\ud800"\n', ""),
        (".toml", b"a = \n", "not TOML"),
        (".toml", b"a = inf\n", "JSON cannot say"),
        (".toml", b"a = '\xff'\n", "not UTF-8"),
        (".yaml", b"{a: " * 33 + b"1" + b"}" * 33, "more than 32 levels"),
    ],
)
def test_what_the_wire_cannot_carry_is_refused_before_it_is_sent(suffix: str, text: bytes, why: str) -> None:
    """The refusal names the file, and the place where there is one."""
    with pytest.raises(Failed, match=f"^f: .*{why}") as caught:
        parse(text, suffix, "f")
    assert caught.value.ending == 5


@pytest.mark.parametrize("text", ["[1, 2]", "just text", "", "4"])
def test_a_config_is_an_object(tmp_path: Path, text: str) -> None:
    """A file that holds anything else is refused."""
    file = tmp_path / "c.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(Failed, match="a config is an object with keys"):
        values.config((f"@{file}",))


@pytest.mark.parametrize("argument", ["model", "=x", "file.yaml"])
def test_what_is_no_pair_is_refused_with_what_can_be_written(argument: str) -> None:
    """The words of the refusal say how a file and standard input are named."""
    with pytest.raises(click.UsageError, match="@FILE"):
        values.config((argument,))


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash stands for standard input, JSON or YAML; two of them are refused."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: 1\nb: [x]\n")))
    assert values.config(("-", "a=2")) == {"a": 2, "b": ["x"]}
    with pytest.raises(click.UsageError, match="once"):
        values.config(("-", "-"))


@pytest.mark.parametrize(
    "value",
    ["yes", "on", "1.0", "0o17", "~", "", " x", "a: b", "# x", "two\nlines", "end\n", "tab\there", "é\u202e", "1:30"],
)
def test_yaml_that_is_written_reads_back(value: str) -> None:
    """Whatever a text looks like, it comes back as that text."""
    written = to_yaml({"key": value, "list": [value]})
    assert parse(written.encode(), ".yaml", "f") == {"key": value, "list": [value]}
