"""Write the files that follow from the contracts' models, or check that they are up to date.

``python tests/contracts/generate.py`` writes ``contracts/schemas/*.json`` and ``contracts/asyncapi.yaml``; with
``--check`` it changes nothing, names the files that drifted on stderr, and exits 1 if there are any.
"""

import json
import sys
from pathlib import Path

import yaml

from setpoint_contracts import asyncapi, schemas

CONTRACTS = Path(__file__).parents[2] / "contracts"


class _Dumper(yaml.SafeDumper):
    """Writes a part that occurs twice twice: readers of the file know no anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def generated() -> dict[Path, str]:
    """Build every generated file: its path and its text."""
    files = {
        CONTRACTS / "schemas" / f"{name}.json": json.dumps(schema, ensure_ascii=False, indent=2) + "\n"
        for name, schema in schemas.schemas().items()
    }
    head = "# Generated from the models in setpoint_contracts by tests/contracts/generate.py. Do not edit.\n"
    body = yaml.dump(asyncapi.document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return files | {CONTRACTS / "asyncapi.yaml": head + body}


def drifted(files: dict[Path, str]) -> list[Path]:
    """Name the files that are missing, differ, or should not be there."""
    stale = set((CONTRACTS / "schemas").glob("*.json")) - files.keys()
    changed = {path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text}
    return sorted(stale | changed)


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: generate.py [--check]\n")
        return 2
    files = generated()
    paths = drifted(files)
    for path in paths:
        if arguments:
            sys.stderr.write(f"{path.relative_to(CONTRACTS.parent)} is out of date: run tests/contracts/generate.py\n")
        elif path in files:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path], "utf-8")
        else:
            path.unlink()
    return 1 if arguments and paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
