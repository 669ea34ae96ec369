"""The generated files, and the rule of who may import what."""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from setpoint_contracts import COMMANDS, Code, Topics, asyncapi, schemas
from tests.contracts import generate

PACKAGE = Path(asyncapi.__file__).parent


def test_generated_files_are_up_to_date() -> None:
    """What is committed is what the models say now."""
    assert generate.drifted(generate.generated()) == []
    assert generate.main(["--check"]) == 0


def test_drift_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is missing, changed, or of no model any more is named; writing repairs all three."""
    monkeypatch.setattr(generate, "CONTRACTS", tmp_path / "contracts")
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/commands.md").write_text(f"# Commands\n{generate.BEGIN}{generate.END}")
    assert generate.main([]) == 0
    (tmp_path / "contracts/schemas/reply.json").unlink()
    (tmp_path / "contracts/schemas/old.json").write_text("{}")
    (tmp_path / "contracts/asyncapi.yaml").write_text("{}")
    page = (tmp_path / "contracts/commands.md").read_text()
    (tmp_path / "contracts/commands.md").write_text(page.replace("| w |", "| r |"))

    assert generate.main(["--check"]) == 1
    named = [line.partition(" is ")[0] for line in capsys.readouterr().err.splitlines()]
    assert named == [
        "contracts/asyncapi.yaml",
        "contracts/commands.md",
        "contracts/schemas/old.json",
        "contracts/schemas/reply.json",
    ]

    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_unknown_arguments_are_refused() -> None:
    """Anything but `--check` is a mistake, and writes nothing."""
    assert generate.main(["--chekc"]) == 2


def test_every_command_has_its_schemas_channel_and_reply() -> None:
    """No command is missing from the documents for machines."""
    made, document = schemas.schemas(), asyncapi.document()
    addresses = {channel["address"] for channel in document["channels"].values()}
    for name in COMMANDS:
        slug = name.replace("/", "-")
        assert {f"{slug}.params", f"{slug}.result"} <= made.keys()
        assert Topics().command(name) in addresses
        assert document["operations"][f"receive-{slug}"]["action"] == "receive"
        assert {slug, f"{slug}-reply"} <= document["components"]["messages"].keys()
    assert made["reply"]["$defs"]["Code"]["enum"] == list(Code)


def test_who_signs_is_said_of_every_message() -> None:
    """What the daemon says has a `jws`, but for audit events, which have none, and the empty payload that clears."""
    document = asyncapi.document()
    sent = {
        message.removeprefix("#/components/messages/")
        for operation in document["operations"].values()
        if operation["action"] == "send"
        for message in references(document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]["messages"])
    }
    signed = {name for name, message in document["components"]["messages"].items() if "headers" in message}
    assert sent - signed == {"audit", "cleared"}
    assert signed <= sent


def test_replies_beside_the_usual_ones_are_described() -> None:
    """A command that there is not has its reply too, and any reply may go where the caller asks for it."""
    document = asyncapi.document()
    usual, chosen = (document["channels"][name] for name in ("reply", "chosen-reply"))
    assert usual["messages"] == chosen["messages"]
    assert chosen["address"] is None
    assert {f"{name.replace('/', '-')}-reply" for name in (*COMMANDS, "unknown-command")} == usual["messages"].keys()


def references(value: Any) -> list[str]:
    """List every reference in a document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in references(inner)]
    return []


def test_every_reference_leads_somewhere() -> None:
    """The committed files stand by themselves: each reference points into its own file."""
    documents = [
        yaml.safe_load((generate.CONTRACTS / "asyncapi.yaml").read_text("utf-8")),
        *schemas.schemas().values(),
    ]
    assert len(references(documents[0])) > 50
    for document in documents:
        for reference in references(document):
            place = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]


def test_schemas_leave_out_what_the_wire_leaves_out() -> None:
    """In what the daemon sends, null is an allowed value only where it says something."""
    document = schemas.schemas()["config-document"]["properties"]
    assert document["config"]["type"] == "object"
    assert document["deleted"]["const"] is True
    assert {"type": "null"} in document["updated_by"]["anyOf"]
    assert {"type": "null"} in schemas.schemas()["claims"]["properties"]["reply_to"]["anyOf"]


def imported(path: Path) -> set[str]:
    """Name the top-level packages that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_contracts_import_little(module: Path) -> None:
    """The contracts need the standard library, pydantic and cryptography, so that any service can afford them."""
    allowed = {"setpoint_contracts", "pydantic", "pydantic_core", "cryptography"}
    assert imported(module) - allowed <= sys.stdlib_module_names
