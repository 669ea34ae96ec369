"""`setpoint edit`: compare-and-set, and a second chance."""

import json
import re
import signal
from pathlib import Path

from tests.cli.command import SETPOINT, Setpoint
from tests.waiting import DEADLINE_S, until


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
    assert "is no command" in setpoint.refused(2, "edit", service, EDITOR="vi 'x")
    setpoint.refused(3, "get", service)


def _kept(said: str) -> bytes:
    return Path(said.split("your text is kept in ")[1].split("\n", maxsplit=1)[0]).read_bytes()


def test_what_an_editor_saved_is_kept_however_it_ends(setpoint: Setpoint, service: str) -> None:
    """It fails, saves what is no text, or is ended with the command: what it saved is in a file that is named."""
    for script, saved in (("echo 'b: 2' >>\"$1\"; exit 1", b"b: 2\n"), ("printf '\\377' >>\"$1\"", b"\xff")):
        assert _kept(setpoint.refused(2, "edit", service, EDITOR=setpoint.editor(script))).endswith(saved)
    editor = setpoint.editor('echo "c: 3" >>"$1"; touch open; exec sleep 1000')
    edit = setpoint.start("edit", service, EDITOR=editor)
    until((setpoint.home / "open").exists, "the editor is open")
    edit.send_signal(signal.SIGINT)  # the editor's own, as Ctrl-C is
    edit.send_signal(signal.SIGTERM)
    _, err = edit.communicate(timeout=DEADLINE_S)
    assert edit.returncode == 143
    assert _kept(err).endswith(b"c: 3\n")


def test_a_key_cannot_leave_the_comments(setpoint: Setpoint, service: str) -> None:
    """A line end in a key that both changed is shown as such, in the editor and in differences."""
    key = "a\nb: 1\nc"
    setpoint.ok("set", service, "-", "-q", stdin=json.dumps({"k": {key: 1}}))
    changed = json.dumps({"k": {key: 2}})
    other = f"printf %s '{changed}' | {SETPOINT} patch {service} - -q >/dev/null"
    editor = setpoint.editor(f'[ -e first ] && {{ cp "$1" seen; exit 1; }}; touch first; {other}; echo "k: 1" >"$1"')
    said = setpoint.refused(2, "edit", service, EDITOR=editor)
    assert _kept(said) == b"k: 1\n"
    assert "#   + /k/a\\nb: 1\\nc: 2\n" in (setpoint.home / "seen").read_text("utf-8")
    assert "+ /k/a\\nb: 1\\nc: 2\n" in setpoint("diff", service).stdout


def test_a_service_can_begin_in_the_editor(setpoint: Setpoint, service: str) -> None:
    """One that is not there begins empty, and is written only if it is still not there."""
    editor = setpoint.editor("echo 'lang: no' >\"$1\"")
    setpoint.ok("edit", service, EDITOR=editor)
    assert setpoint.ok("get", service, "-o", "raw") == '{"lang":"no"}\n'
    setpoint.ok("edit", f"{service}-b", EDITOR=setpoint.editor("echo 'below: 1' >>\"$1\""))
    assert setpoint.ok("get", f"{service}-b", "-o", "raw") == '{"below":1}\n'


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
    said = setpoint.refused(5, "edit", service, EDITOR=once)
    assert _kept(said) == b"n: y\n"
