"""Reading and writing configs: what goes where, and how it ends."""

import json
from pathlib import Path
from typing import Any

from tests.cli.command import Setpoint
from tests.daemon import NewDaemon


def test_a_config_is_set_and_shown_in_every_form(setpoint: Setpoint, service: str) -> None:
    """The difference goes to standard error before it is made, the result to standard output, in the form asked for."""
    done = setpoint("set", service, "model=base", "threads=4", 'port="80"', "--reason", "first")
    assert (done.returncode, done.stderr) == (
        0,
        f'{service} (new)\n+ /model: base\n+ /port: "80"\n+ /threads: 4\n',
    )
    assert done.stdout == f"SERVICE       VERSION  RESULT\n{service}  1        changed\n"
    shown = setpoint.ok("get", service).splitlines()
    assert shown[0].startswith(f"{service} · version 1 · revision ")
    assert shown[1:] == ["KEY      VALUE", "model    base", "threads  4", 'port     "80"']
    document = json.loads(setpoint.ok("get", service, "-o", "json"))
    assert (document["version"], document["config"]) == (1, {"model": "base", "threads": 4, "port": "80"})
    assert f"service: {service}\nversion: 1\n" in setpoint.ok("-o", "yaml", "get", service)
    assert setpoint.ok("get", service, "-o", "raw") == '{"model":"base","threads":4,"port":"80"}\n'
    assert setpoint.ok("get", service, "--key", "port", SETPOINT_OUTPUT="raw") == "80\n"


def test_set_replaces_and_patch_merges(setpoint: Setpoint, service: str) -> None:
    """After patch other keys are as they were, after set they are gone; null removes a key."""
    setpoint.ok("set", service, 'vad={"threshold": 0.5, "on": true}', "a=1", "b=2", "-q")
    done = setpoint("patch", service, 'vad={"threshold": 0.7}', "a=null")
    assert done.stderr == (f"{service} version 1 → 2\n- /a: 1\n- /vad/threshold: 0.5\n+ /vad/threshold: 0.7\n")
    assert json.loads(setpoint.ok("get", service, "-o", "raw")) == {"vad": {"threshold": 0.7, "on": True}, "b": 2}
    assert setpoint("set", service, "a=3", "-q").stderr == ""
    assert setpoint.ok("get", service, "-o", "raw") == '{"a":3}\n'
    again = setpoint("set", service, "a=3")
    assert (again.returncode, again.stderr) == (0, f"{service} version 3: nothing changes\n")
    assert again.stdout.endswith("unchanged\n")


def test_values_come_from_files_and_standard_input(setpoint: Setpoint, service: str) -> None:
    """A file and standard input are put together with pairs, in their order."""
    (setpoint.home / "base.toml").write_text('model = "base"\nthreads = 4\n', "utf-8")
    setpoint.ok("set", service, "@base.toml", "-", "threads=8", stdin="lang: no\nthreads: 6\n")
    assert json.loads(setpoint.ok("get", service, "-o", "raw")) == {"model": "base", "lang": "no", "threads": 8}


def test_a_dry_run_changes_nothing(setpoint: Setpoint, service: str) -> None:
    """What would change is shown, and the service is not there afterwards."""
    for arguments in (("set", service, "a=1"), ("apply", "-")):
        done = setpoint(*arguments, "--dry-run", "-o", "json", stdin=json.dumps({service: {"a": 1}}))
        assert f"{service} (new)\n+ /a: 1\n" in done.stderr
        assert json.loads(done.stdout)["dry_run"] is True
        table = setpoint.ok(*arguments, "--dry-run", "-q", stdin=json.dumps({service: {"a": 1}}))
        assert table.splitlines()[1].endswith("  1        would change")
    setpoint.refused(3, "get", service)


def test_a_version_can_be_expected(setpoint: Setpoint, service: str) -> None:
    """At another version nothing is written, the exit code is 4, and the words tell what to expect instead."""
    setpoint.ok("set", service, "a=1", "--expect", 0)
    said = setpoint.refused(4, "set", service, "a=2", "--expect", 0)
    assert said.splitlines()[-1] == f"  do: look at it (`setpoint get {service}`), then write with --expect 1"
    assert "+ /a" not in said
    setpoint.ok("patch", service, "a=2", "--expect", 1)
    setpoint.refused(4, "delete", service, "--expect", 1)
    setpoint.ok("delete", service, "--expect", 2)
    assert "`setpoint history" in setpoint.refused(3, "get", service)


def test_changes_are_applied_together_or_not_at_all(setpoint: Setpoint, service: str) -> None:
    """A file of configs by service, or of changes, is one revision; one that cannot be stops all."""
    both = f"{service}-a: {{x: 1}}\n{service}-b: {{x: 2}}\n"
    (setpoint.home / "both.yaml").write_text(both, "utf-8")
    results = json.loads(setpoint.ok("apply", "both.yaml", "-o", "json"))["results"]
    assert [one["version"] for one in results] == [1, 1]
    assert len({one["revision"] for one in results}) == 1
    changes: list[dict[str, Any]] = [
        {"op": "patch", "service": f"{service}-a", "patch": {"x": 5}},
        {"op": "delete", "service": f"{service}-b", "expected_version": 7},
    ]
    assert "is at version 1" in setpoint.refused(4, "apply", "-", stdin=json.dumps({"changes": changes}))
    assert setpoint.ok("get", f"{service}-a", "-o", "raw") == '{"x":1}\n'
    changes[1].pop("expected_version")
    setpoint.ok("apply", "-", "--reason", "both", stdin=json.dumps(changes))
    assert setpoint.ok("list", service, "-o", "raw") == f"{service}-a\n"
    assert "give a list of changes" in setpoint.refused(5, "apply", "-", stdin="just text")


def test_services_are_listed_page_by_page(setpoint: Setpoint, service: str) -> None:
    """All services of a prefix are listed, more than there are on one page; or as many as are asked for."""
    names = [f"{service}-{number:03}" for number in range(120)]
    setpoint.ok("apply", "-", "-q", stdin=json.dumps({name: {"a": 1} for name in names}))
    assert setpoint.ok("list", service, "-o", "raw").split() == names
    assert setpoint.ok("list", service, "-o", "raw", "--limit", 2).split() == names[:2]
    assert len(json.loads(setpoint.ok("list", service, "-o", "json"))["services"]) == 120


def test_old_versions_are_shown(setpoint: Setpoint, service: str) -> None:
    """A config is shown as of a version, a revision and a time."""
    first = json.loads(setpoint.ok("set", service, "a=1", "-q", "-o", "json"))
    setpoint.ok("set", service, "a=2", "-q")
    for point in (("--version", 1), ("--revision", first["revision"]), ("--time", first["updated_at"])):
        assert setpoint.ok("get", service, "-o", "raw", *point) == '{"a":1}\n'
    assert "at most one" in setpoint.refused(5, "get", service, "--version", 1, "--revision", 1)


def test_a_search_finds_keys_and_values(setpoint: Setpoint, service: str) -> None:
    """Matches are named with their values; none at all is exit code 3."""
    setpoint.ok("set", service, f"model=whisper-{service}", "other=1", "-q")
    found = json.loads(setpoint.ok("search", f"WHISPER-{service}", "-o", "json"))["matches"]
    assert found == [{"service": service, "key": "model", "value": f"whisper-{service}"}]
    setpoint.refused(3, "search", "nothing-has-this", "--service", service, "-o", "raw")


def test_what_does_not_fit_is_refused_in_words(setpoint: Setpoint, service: str) -> None:
    """Parameters and schemas that are not met end with 5, wrong usage with 2; each in two lines at most."""
    (setpoint.home / "schema.yaml").write_text("properties: {threads: {type: integer}}\n", "utf-8")
    setpoint.ok("schema", "set", service, "schema.yaml")
    said = setpoint.refused(5, "set", service, "threads=many")
    assert "/threads: " in said
    assert f"setpoint schema get {service}" in said
    assert said.count("\n") == 2
    assert "do: see `setpoint set --help`" in setpoint.refused(2, "set", service, "novalue")
    assert "cannot be read" in setpoint.refused(2, "set", service, "@missing.yaml")
    assert "service: " in setpoint.refused(5, "set", "Not-A-Service", "a=1")
    assert said.count("/threads: ") == 1
    assert setpoint.refused(2, "pach").startswith("setpoint: No such command 'pach'. (Did you mean one of: 'patch', ")
    assert "at least 0.1" in setpoint.refused(2, "list", "--timeout", 0)
    setpoint.refused(2, "set", f"{service}-y", "a=1", SETPOINT_OUTPUT="xml")
    assert f"{service}-y" not in setpoint.ok("list", service)
    assert "`setpoint list`" in setpoint.refused(3, "patch", f"{service}-x", "a=1")


def test_what_is_not_found_can_be_looked_up(setpoint: Setpoint, service: str) -> None:
    """The words name the command that lists what there is of its kind."""
    setpoint.ok("set", service, "a=1", "-q")
    for looked_up, *arguments in (
        (f"history {service} --versions", "get", service, "--version", 9),
        (f"history {service} --versions", "restore", service, "--version", 9),
        (f"get {service}", "get", service, "--key", "nokey"),
        ("list", "get", f"{service}-x"),
        ("list", "diff", f"{service}-x"),
        ("profile list", "profile", "load", f"{service}-x"),
        ("schema list", "schema", "get", service),
        ("token list", "token", "revoke", "tok_0000000000000000"),
    ):
        said = setpoint.refused(3, *arguments)
        assert said.splitlines()[-1] == f"  do: `setpoint {looked_up}` shows what there is"


def test_without_an_answer_before_a_change_nothing_was_changed(new_daemon: NewDaemon, alone: Setpoint) -> None:
    """What asks only what would change says so when nobody answers; the exit code is 7."""
    daemon = new_daemon()
    daemon.stop()
    setpoint = Setpoint(daemon, alone.home)
    for arguments in (("set", "fan", "a=1"), ("delete", "fan"), ("restore", "fan", "--version", 1, "--dry-run")):
        said = setpoint.refused(7, *arguments, "--timeout", 0.5)
        assert said.startswith("setpoint: nothing was changed: no answer")
        assert "took effect" not in said


def test_secrets_are_shown_on_demand_only(setpoint: Setpoint, service: str) -> None:
    """The value of a secret is in no output but that of --reveal."""
    (setpoint.home / "s.json").write_text('{"properties":{"password":{"type":"string","writeOnly":true}}}', "utf-8")
    setpoint.ok("schema", "set", service, "s.json")
    done = setpoint("set", service, "password=hunter2", "user=me")
    assert "hunter2" not in done.stdout + done.stderr
    for arguments in (("get", service), ("history", service), ("get", service, "-o", "json")):
        assert "hunter2" not in setpoint.ok(*arguments)
    assert setpoint.ok("get", service, "--key", "password", "--reveal", "-o", "raw") == "hunter2\n"
    revealed = json.loads(setpoint.ok("get", service, "--reveal", "-o", "json"))
    assert revealed["config"] == {"password": "hunter2", "user": "me"}
    assert "secrets_jwe" not in revealed


def test_a_deleted_service_has_no_secrets_to_reveal(setpoint: Setpoint, service: str) -> None:
    """Its tombstone is shown as it is."""
    setpoint.ok("set", service, "a=1", "-q")
    setpoint.ok("delete", service, "-q")
    assert " · deleted · " in setpoint.ok("get", service, "--version", 2, "--reveal")


def test_several_requests_are_no_mqtt_line(setpoint: Setpoint, service: str) -> None:
    """What is more than one request, or asks before it writes, is refused with --print-mqtt."""
    for arguments in (("export", "all.jsonl"), ("doctor",), ("edit", service), ("diff", service), ("wait", service)):
        assert "one request" in setpoint.refused(2, *arguments, "--print-mqtt")


def test_the_mqtt_line_does_the_same(setpoint: Setpoint, service: str) -> None:
    """Nothing is sent with --print-mqtt; the line that it prints, run by a shell, does it and prints the reply."""
    line = setpoint.ok("set", service, "note=it's $HOME", "--print-mqtt", "--reason", "by hand")
    assert line.startswith("mosquitto_rr ")
    setpoint.refused(3, "get", service)
    reply = setpoint.shell(line)
    assert json.loads(reply.stdout)["result"]["config"] == {"note": "it's $HOME"}
    assert setpoint.ok("get", service, "--key", "note", "-o", "raw") == "it's $HOME\n"


def test_any_command_can_be_called_and_signed(setpoint: Setpoint, service: str) -> None:
    """`call` prints the result as JSON; what `sign` prints takes effect when mosquitto_pub publishes it."""
    params = json.dumps({"service": service, "config": {"a": 1}})
    assert json.loads(setpoint.ok("call", "set", params))["version"] == 1
    assert json.loads(setpoint.ok("call", "info"))["principal"] == "admin"
    assert "unknown" not in setpoint.refused(8, "call", "no/such")
    assert "PARAMS" in setpoint.refused(5, "call", "set", "[1]")
    topic = f"{setpoint.env['SETPOINT_TOPIC_PREFIX']}config/cmd/patch"
    broker = setpoint.env["SETPOINT_BROKER_URL"].removeprefix("mqtt://").split(":")
    patch = json.dumps({"service": service, "patch": {"a": 2}})
    said = setpoint.shell('setpoint call get $\'{"service":"\\xff"}\'')
    assert (said.returncode, said.stderr) == (5, "setpoint: PARAMS: not UTF-8\n")
    assert "did you mean patch?" in setpoint("sign", "ptach", "{}").stderr
    command = f"setpoint sign patch '{patch}' | mosquitto_pub -h {broker[0]} -p {broker[1]} -q 1 -t {topic} -s"
    assert setpoint.shell(command).returncode == 0
    assert setpoint.ok("watch", service, "--count", 1, "-o", "raw") == '{"a":2}\n'


def test_a_file_of_the_home_directory_is_found(setpoint: Setpoint, service: str) -> None:
    """A tilde in @FILE is the home directory, which a shell does not see to there."""
    (Path(setpoint.home) / "c.yaml").write_text("a: 1\n", "utf-8")
    setpoint.ok("set", service, "@~/c.yaml", "-q")
