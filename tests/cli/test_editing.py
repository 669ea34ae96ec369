"""`setpoint edit`: compare-and-set, and a second chance."""

import json
import re
from pathlib import Path

from tests.cli.command import SETPOINT, Setpoint


def test_what_is_edited_is_written_over_the_version_that_was_seen(setpoint: Setpoint, service: str) -> None:
    """The editor shows YAML; what is saved is written, with the difference shown before."""
    setpoint.ok("set", service, "model=base", "threads=4", "-q")
    editor = setpoint.editor('sed -i \'s/threads: 4/threads: 8/\' "$1"; stat -c %a "$1" >mode')
    done = setpoint("edit", service, "--reason", "more", EDITOR=editor)
    assert done.stderr == f"{service} version 1 → 2\n- /threads: 4\n+ /threads: 8\n"
    assert (setpoint.home / "mode").read_text() == "600\n"
    assert json.loads(setpoint.ok("get", service, "-o", "raw")) == {"model": "base", "threads": 8}


def test_nothing_is_written_where_nothing_was_changed(setpoint: Setpoint, service: str) -> None:
    """A text that is left as it is, emptied, or whose editor fails, leaves the service alone."""
    assert "nothing was changed" in setpoint("edit", service, "--editor", "true").stderr
    assert "the text is empty" in setpoint.refused(2, "edit", service, EDITOR=setpoint.editor('echo >"$1"'))
    assert "ended with 3" in setpoint.refused(2, "edit", service, VISUAL=setpoint.editor("exit 3"))
    assert "cannot be run" in setpoint.refused(2, "edit", service, EDITOR="/no/such/editor")
    setpoint.refused(3, "get", service)


def test_a_service_can_begin_in_the_editor(setpoint: Setpoint, service: str) -> None:
    """One that is not there begins empty, and is written only if it is still not there."""
    editor = setpoint.editor("echo 'lang: no' >\"$1\"")
    setpoint.ok("edit", service, EDITOR=editor)
    assert setpoint.ok("get", service, "-o", "raw") == '{"lang":"no"}\n'


def test_a_conflict_opens_the_editor_again_with_both(setpoint: Setpoint, service: str) -> None:
    """The second text has the new config with one's own changes in it, names what both changed, and keeps the text."""
    setpoint.ok("set", service, "model=base", "threads=4", "lang=de", "-q")
    other = f"{SETPOINT} patch {service} model=theirs extra=1 threads=4 -q >/dev/null"
    editor = setpoint.editor(
        f'if [ -e first ]; then cp "$1" second; exit; fi; touch first; {other};'
        " sed -i 's/model: .*/model: mine/; s/lang: de/lang: en/' \"$1\""
    )
    done = setpoint("edit", service, EDITOR=editor)
    assert done.returncode == 0
    assert "has made version 2" in done.stderr
    second = (setpoint.home / "second").read_text("utf-8")
    assert "#   /model\n" in second
    assert "#   + /extra: 1\n" in second
    assert "#| model: mine\n" in second
    config = json.loads(setpoint.ok("get", service, "-o", "raw"))
    assert config == {"model": "mine", "threads": 4, "lang": "en", "extra": 1}
    assert json.loads(setpoint.ok("get", service, "-o", "json"))["version"] == 3


def test_a_deleted_service_is_pointed_out(setpoint: Setpoint, service: str) -> None:
    """Deleted while it was edited, it is not made again unseen."""
    setpoint.ok("set", service, "a=1", "-q")
    editor = setpoint.editor(
        'if [ -e first ]; then cp "$1" second; : >"$1"; exit; fi; touch first;'
        f" {SETPOINT} delete {service} -q >/dev/null;"
        " sed -i 's/a: 1/a: 2/' \"$1\""
    )
    done = setpoint("edit", service, EDITOR=editor)
    assert done.returncode == 2
    assert "has deleted" in (setpoint.home / "second").read_text("utf-8")
    setpoint.refused(3, "get", service)


def test_what_does_not_fit_can_be_mended(setpoint: Setpoint, service: str) -> None:
    """The reason stands on top when the editor opens again; given up, the text is kept in a file that is named."""
    setpoint.ok("schema", "set", service, "-", stdin="properties: {n: {type: integer}}")
    steps = (
        'cp "$1" seen-$n; case $n in 1) echo \'n: [\' >"$1";; 2) echo \'n: x\' >"$1";; 3) echo \'n: 3\' >"$1";; esac'
    )
    editor = setpoint.editor(f"n=$(($(cat count 2>/dev/null || echo 0) + 1)); echo $n >count; {steps}")
    setpoint.ok("edit", service, EDITOR=editor)
    assert "# NOT WRITTEN: the text: not YAML" in (setpoint.home / "seen-2").read_text("utf-8")
    assert re.match("# NOT WRITTEN: .*/n: ", (setpoint.home / "seen-3").read_text("utf-8"))
    assert setpoint.ok("get", service, "-o", "raw") == '{"n":3}\n'
    once = setpoint.editor("[ -e once ] || echo 'n: y' >\"$1\"; touch once")
    said = setpoint.refused(5, "edit", service, EDITOR=once, TMPDIR=str(setpoint.home))
    kept = Path(said.split("your text is kept in ")[1].split("\n")[0])
    assert "n: y" in kept.read_text("utf-8")
