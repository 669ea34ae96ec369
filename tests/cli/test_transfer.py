"""Export and import: the same state is the same file, nothing is half done, and secrets stay where they are."""

import csv
import fcntl
import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from setpoint.cli.app import setpoint as setpoint_command
from setpoint.cli.archive import batches, redacted_in
from setpoint.cli.connection import Session
from tests.cli.command import Setpoint
from tests.daemon import NewDaemon

SECRET_SCHEMA = {"properties": {"password": {"type": "string", "writeOnly": True}}}
NewSetpoint = Callable[[], Setpoint]
Meanwhile = Callable[..., Result]


@pytest.fixture
def new_setpoint(new_daemon: NewDaemon, tmp_path: Path) -> NewSetpoint:
    """Run `setpoint` for a daemon with an empty store, all in one home."""
    home = tmp_path / "home"
    home.mkdir()
    return lambda: Setpoint(new_daemon(), home)


def _fill(setpoint: Setpoint) -> str:
    """Export to `one.jsonl` what it has to keep: profiles of what was, a deleted service, a config out of schema."""
    calls: list[tuple[str, dict[str, Any]]] = [
        (
            "apply",
            {"changes": [_set("stt", {"model": "a", "n": 1}), _set("tts", {"voice": "x"}), _set("old", {"z": 1})]},
        ),
        ("profile/save", {"name": 'Früh / "eins"', "description": "what was\nfirst"}),
        ("apply", {"changes": [_set("stt", {"n": 2, "model": "b", "deep": {"y": [1.5, None]}}), _delete("old")]}),
        ("profile/save", {"name": "two", "services": ["tts"]}),
        ("schema/set", {"service": "stt", "schema": {"properties": {"n": {"type": "string"}}}, "force": True}),
        ("schema/set", {"service": "unborn", "schema": {"type": "object"}}),
    ]
    for command, params in calls:
        setpoint.ok("call", command, "-", stdin=json.dumps(params))
    assert "2 profiles, 2 configs" in setpoint("export", "one.jsonl").stderr
    return (setpoint.home / "one.jsonl").read_text("utf-8")


def _set(service: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"op": "set", "service": service, "config": config}


def _delete(service: str) -> dict[str, Any]:
    return {"op": "delete", "service": service}


def _spoilt(text: str) -> str:
    """Add a config that no daemon takes to the text of an export."""
    head, _, lines = text.partition("\n")
    told = json.loads(head)
    told["counts"]["config"] += 1
    return json.dumps(told) + "\n" + lines + '{"config":{"not a key":1},"kind":"config","name":"zzz"}\n'


def test_an_export_imported_into_an_empty_store_exports_the_same(new_setpoint: NewSetpoint) -> None:
    """Byte for byte: configs, profiles of what was, schemas that configs do not fit; and again changes nothing."""
    one, other = new_setpoint(), new_setpoint()
    good = _fill(one)
    assert stat.S_IMODE((one.home / "one.jsonl").stat().st_mode) == 0o600
    head, *lines = good.splitlines()
    counts = {"config": 2, "profile": 2, "schema": 2}
    assert json.loads(head) == {"format": "setpoint-export", "version": 1, "secrets": "none", "counts": counts}
    assert [(json.loads(line)["kind"], json.loads(line)["name"]) for line in lines] == [
        *(("schema", "stt"), ("schema", "unborn"), ("profile", 'Früh / "eins"'), ("profile", "two")),
        *(("config", "stt"), ("config", "tts")),
    ]
    tried = other("import", "one.jsonl", "--dry-run", "-o", "json")
    assert json.loads(tried.stdout)["configs"] == {"all": 2, "changed": 2}
    assert other.ok("list", "-o", "raw") == ""
    other.ok("import", "one.jsonl", "--reason", "moving")
    assert other.ok("export", "-") == good
    again = json.loads(other.ok("import", "one.jsonl", "-o", "json"))
    assert {kind: found["changed"] for kind, found in again.items()} == {"configs": 0, "profiles": 0, "schemas": 0}
    assert not list(one.home.glob("*.part")) + list(one.home.glob("*.importing"))


@pytest.mark.long
def test_secrets_are_exported_on_demand_only(new_setpoint: NewSetpoint) -> None:
    """Without --reveal no value is in the file, and it is refused; with it all is kept, and sealed again."""
    one, other = new_setpoint(), new_setpoint()
    one.ok("schema", "set", "mail", "-", stdin=json.dumps(SECRET_SCHEMA))
    one.ok("set", "mail", "password=first", "host=h", "-q")
    one.ok("profile", "save", "before")
    one.ok("patch", "mail", "password=second", "-q")
    one.ok("set", "plain", "a=1", "-q")
    one.ok("export", "redacted.jsonl")
    one.ok("export", "revealed.jsonl", "--reveal")
    redacted, revealed = ((one.home / f"{name}.jsonl").read_text("utf-8") for name in ("redacted", "revealed"))
    assert "first" not in redacted
    assert "second" not in redacted
    assert '"secrets":"revealed"' in revealed
    said = other.refused(5, "import", "redacted.jsonl")
    assert "profile before, config mail" in said
    assert "--reveal" in said
    assert other.ok("list", "-o", "raw") == ""
    skipped = other("import", "redacted.jsonl", "--skip-redacted")
    assert "left out: config mail" in skipped.stderr
    assert other.ok("list", "-o", "raw") == "plain\n"
    watch = other.start("watch", "mail", "--count", 1, "-o", "json")
    tried = other("import", "revealed.jsonl", "--dry-run")
    assert "second" not in tried.stdout + tried.stderr
    other.ok("import", "revealed.jsonl")
    published, _ = watch.communicate(timeout=30)
    assert redacted_in(json.loads(published)["config"])
    other.ok("export", "again.jsonl", "--reveal")
    assert (one.home / "again.jsonl").read_text("utf-8") == revealed
    one.refused(2, "export", "-", "--reveal")


@pytest.mark.long
def test_live_services_are_not_led_through_profiles(new_setpoint: NewSetpoint) -> None:
    """Followers of a service that is there would see what a profile holds: that takes --force, or no profiles."""
    one, other = new_setpoint(), new_setpoint()
    good = _fill(one)
    other.ok("set", "stt", "mine=1", "-q")
    assert "followers would see it" in other.refused(4, "import", "one.jsonl")
    assert other.ok("get", "stt", "-o", "raw") == '{"mine":1}\n'
    assert json.loads(other.ok("import", "one.jsonl", "--no-profiles", "-o", "json"))["configs"]["changed"] == 2
    other.ok("import", "one.jsonl", "--force")
    assert other.ok("export", "-") == good


@pytest.mark.long
def test_an_import_that_was_stopped_goes_on(new_setpoint: NewSetpoint) -> None:
    """One that ended in its middle is run again: what is there is passed over, and the result is the same."""
    one, other = new_setpoint(), new_setpoint()
    good = _fill(one)
    file = one.home / "one.jsonl"
    file.write_text(_spoilt(good), "utf-8")
    other.refused(5, "import", "one.jsonl")  # the profiles are in by then
    assert (one.home / "one.jsonl.importing").exists()
    file.write_text(good, "utf-8")
    other.ok("import", "one.jsonl")
    assert other.ok("export", "-") == good
    assert not (one.home / "one.jsonl.importing").exists()


@pytest.mark.long
def test_what_somebody_sets_before_an_import_goes_on_is_theirs(new_setpoint: NewSetpoint) -> None:
    """It is not deleted with what was only there for a profile, nor led through one: that is refused."""
    one, other = new_setpoint(), new_setpoint()
    one.ok("set", "old", "z=1", "-q")
    one.ok("profile", "save", "eins")
    one.ok("delete", "old")
    one.ok("export", "good.jsonl")
    good = (one.home / "good.jsonl").read_text("utf-8")
    file = one.home / "one.jsonl"
    for code in (0, 4):
        file.write_text(_spoilt(good), "utf-8")
        other.refused(5, "import", "one.jsonl")  # the profile is in by then
        other.ok("set", "old", "mine=1", "-q")
        file.write_text(good, "utf-8")
        if code:
            other.ok("profile", "delete", "eins")
        done = other("import", "one.jsonl")
        assert done.returncode == code, done
        assert other.ok("get", "old", "-o", "raw") == '{"mine":1}\n'
        other.ok("delete", "old")
        other("profile", "delete", "eins")
    assert "old would have to hold" in done.stderr


def test_traces_of_other_profiles_do_not_count(new_setpoint: NewSetpoint) -> None:
    """What an import of another content left says nothing of what was there before this one."""
    one, other = new_setpoint(), new_setpoint()
    good = _fill(one)
    file = one.home / "one.jsonl"
    file.write_text(_spoilt(good), "utf-8")
    other.refused(5, "import", "one.jsonl")
    file.write_text(good.replace("what was", "what once was"), "utf-8")
    other.ok("import", "one.jsonl", "--force")
    assert other.ok("get", "old", "-o", "raw") == '{"z":1}\n'
    assert not (one.home / "one.jsonl.importing").exists()


def test_an_import_needs_a_place_for_its_traces_only_with_profiles(new_setpoint: NewSetpoint) -> None:
    """Where they cannot be written it says what goes without them; what stands at their place is not followed."""
    one, other = new_setpoint(), new_setpoint()
    good = _fill(one)
    (one.home / "mine").write_text("mine", "utf-8")
    (one.home / "one.jsonl.importing").symlink_to("mine")
    said = other.refused(2, "import", "one.jsonl")
    assert "one.jsonl.importing, by which an import that stopped goes on" in said
    assert "setpoint import - <FILE" in said
    assert other.ok("list", "-o", "raw") == ""
    tried = other("import", "one.jsonl", "--no-profiles", "--dry-run").stderr
    assert "would change 2 of 2 configs, 0 of 0 profiles, 2 of 2 schemas\n" in tried
    told = other("import", "one.jsonl", "--no-profiles").stderr
    assert told == "changed 2 of 2 configs, 0 of 0 profiles, 2 of 2 schemas\n"
    other.ok("import", "-", "--force", stdin=good)
    assert other.ok("export", "-") == good
    assert (one.home / "mine").read_text("utf-8") == "mine"


def test_names_in_a_file_do_not_steer_a_terminal(alone: Setpoint) -> None:
    """What somebody wrote into an export is shown with its control characters as escapes."""
    head = {"counts": {"config": 0, "profile": 1, "schema": 0}, "format": "setpoint-export", "version": 1}
    profile = {"kind": "profile", "name": "\x1b[2J\r", "snapshot": {"a": {"b": {"$secret": "x"}}}}
    text = json.dumps(head) + "\n" + json.dumps(profile) + "\n"
    assert "profile \\u001b[2J\\r" in alone.refused(5, "import", "-", stdin=text)
    twice = alone.refused(5, "import", "-", stdin=text + json.dumps(profile) + "\n")
    skipped = alone("import", "-", "--skip-redacted", "--token", "t.jwk", stdin=text).stderr
    assert "\x1b" not in twice + skipped
    assert "left out: profile \\u001b[2J\\r" in skipped


def _begun(setpoint: Setpoint, **more: Any) -> str:
    """Write the first line of a part that is of the present revision and epoch."""
    status = json.loads(setpoint.ok("status", "-o", "json"))
    same = {"store_id": status["store_id"], "epoch": status["epoch"], "sees": None}
    return json.dumps({**same, "reveal": False, "revision": status["revision"], **more}) + "\n"


def _line(name: str, n: int) -> str:
    return f'{{"config":{{"a":{n}}},"kind":"config","name":"{name}"}}\n'


def _exported(file: Path) -> dict[str, int]:
    """Return `a` of each config in a file."""
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()[1:]]
    return {one["name"]: one["config"]["a"] for one in found}


@pytest.mark.long
def test_an_export_that_was_stopped_goes_on_at_its_revision(new_setpoint: NewSetpoint) -> None:
    """What was written or deleted meanwhile does not count, for the file holds one state; a half line is read anew."""
    one = new_setpoint()
    then = {f"svc-{n}": n for n in range(5)}
    one.ok("apply", "-", "-q", stdin=json.dumps({name: {"a": n} for name, n in then.items()}))
    begun = _begun(one, services=sorted(then))
    (one.home / "x.jsonl.part").write_text(begun + _line("svc-0", 0) + '{"config":{"a":1},"ki', "utf-8")
    one.ok("apply", "-", "-q", stdin=json.dumps({f"svc-{n}": {"a": n + 10} for n in range(7)}))
    one.ok("delete", "svc-3")
    assert "1 configs are there" in one("export", "x.jsonl").stderr
    assert _exported(one.home / "x.jsonl") == then
    one.ok("export", "x.jsonl")
    now = {f"svc-{n}": n + 10 for n in (0, 1, 2, 4, 5, 6)}
    assert _exported(one.home / "x.jsonl") == now
    spoilt = begun + _line("svc-0", 0) + '{"kind":"config","name":"svc-1"}\n' + _line("svc-2", 99)
    (one.home / "x.jsonl.part").write_text(spoilt, "utf-8")
    assert "1 configs are there" in one("export", "x.jsonl").stderr
    assert _exported(one.home / "x.jsonl") == then
    (one.home / "x.jsonl.part").write_text(_begun(one) + _line("svc-0", 99), "utf-8")
    assert "going on" not in one("export", "x.jsonl").stderr
    assert _exported(one.home / "x.jsonl") == now


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Run `setpoint` in this process; behind each call of a command, another call of somebody's who is given for it."""

    def run(one: Setpoint, *arguments: str, behind: str, others: list[tuple[str, dict[str, Any]]]) -> Result:
        todo = iter(others)
        call = Session.call

        async def and_another(session: Session, command: str, *given: Any, **more: Any) -> dict[str, Any]:
            found = await call(session, command, *given, **more)
            if command == behind and (other := next(todo, None)) is not None:
                await call(session, *other)
            return found

        monkeypatch.setattr(Session, "call", and_another)
        monkeypatch.chdir(one.home)
        return CliRunner().invoke(setpoint_command, list(arguments), env=one.env, catch_exceptions=False)

    return run


def test_an_export_has_what_was_while_it_listed(new_setpoint: NewSetpoint, meanwhile: Meanwhile) -> None:
    """A service that comes while they are listed is in it, and so is one that goes just behind."""
    one = new_setpoint()
    one.ok("apply", "-", "-q", stdin=json.dumps({"early": {"a": 1}, "stays": {"a": 1}}))
    others = [("set", {"service": "late", "config": {"a": 2}}), ("delete", {"service": "early"})]
    done = meanwhile(one, "export", "x.jsonl", behind="list", others=others)
    assert done.exit_code == 0, done.output
    assert _exported(one.home / "x.jsonl") == {"early": 1, "late": 2, "stays": 1}


def test_what_is_written_while_an_import_runs_stays(new_setpoint: NewSetpoint, meanwhile: Meanwhile) -> None:
    """A service that came for the sake of a profile stays when somebody has written it since, which is said."""
    one, other = new_setpoint(), new_setpoint()
    _fill(one)
    others = [("set", {"service": "old", "config": {"mine": 1}})]
    done = meanwhile(other, "import", "one.jsonl", behind="profile/save", others=others)
    assert done.exit_code == 0, done.output
    assert "old was written meanwhile, so it stays" in done.output
    assert other.ok("get", "old", "-o", "raw") == '{"mine":1}\n'


def test_an_export_begins_anew_when_its_revision_was_pruned(new_setpoint: NewSetpoint) -> None:
    """A service whose config of then is not kept any more is not left out: the file is of now, which is said."""
    one = new_setpoint()
    one.ok("apply", "-", "-q", stdin=json.dumps({"kept": {"a": 1}, "moved": {"a": 1}}))
    begun = _begun(one, services=["kept", "moved"])
    one.ok("set", "moved", "a=2", "-q")
    one.ok("call", "history/prune", '{"keep_versions": 1}')
    (one.home / "x.jsonl.part").write_text(begun + _line("kept", 1), "utf-8")
    said = one("export", "x.jsonl").stderr
    assert "what moved was at revision" in said
    assert "begins anew" in said
    assert _exported(one.home / "x.jsonl") == {"kept": 1, "moved": 2}


def test_an_export_says_what_a_token_does_not_see(new_setpoint: NewSetpoint) -> None:
    """With a token for some services the file holds only these, and another's part is not gone on with."""
    one = new_setpoint()
    one.ok("apply", "-", "-q", stdin=json.dumps({"stt": {"a": 1}, "tts": {"a": 1}}))
    one.ok("token", "create", "some", "--role", "viewer", "--services", "stt*", "--out", "some.jwk")
    (one.home / "x.jsonl.part").write_text(_begun(one, services=["stt", "tts"]) + _line("tts", 1), "utf-8")
    for more in ((), ("--history",)):
        done = one("export", "x.jsonl", "--token", "some.jwk", *more)
        assert "sees only some services (stt*)" in done.stderr
        assert "going on" not in done.stderr
    one.ok("export", "x.jsonl", "--token", "some.jwk")
    assert _exported(one.home / "x.jsonl") == {"stt": 1}
    assert "sees only" not in one("export", "x.jsonl").stderr


def test_one_export_at_a_time_writes_a_file(alone: Setpoint) -> None:
    """Another one is refused as long as the part is held."""
    with (alone.home / "x.jsonl.part").open("wb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        assert "another export writes x.jsonl.part" in alone.refused(2, "export", "x.jsonl")
    assert "t.jwk cannot be read" in alone.refused(2, "export", "x.jsonl", "--token", "t.jwk")


def test_what_is_no_regular_file_is_not_replaced(alone: Setpoint) -> None:
    """A pipe, and so a device, stays what it is, and a directory is no place for a file."""
    os.mkfifo(alone.home / "pipe")
    assert "pipe is no regular file" in alone.refused(2, "export", "pipe")
    assert stat.S_ISFIFO((alone.home / "pipe").lstat().st_mode)
    assert "no regular file" in alone.refused(2, "export", str(alone.home))
    assert [one.name for one in alone.home.iterdir()] == ["pipe"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("not json\n", "line 1: not JSON"),
        ('{"format":"other"}\n', "is no export"),
        ('{"format":"setpoint-export","version":2}\n', "a later format"),
        ('{"format":"setpoint-export","version":1}\n{"kind":"what","name":"x"}\n', "line 2: neither"),
        (
            '{"format":"setpoint-export","version":1}\n' + 2 * '{"kind":"config","name":"x","config":{}}\n',
            "line 3: the config x stands there twice",
        ),
        (
            '{"counts":{"config":2,"profile":0,"schema":0},"format":"setpoint-export","version":1}\n',
            "standard input is not whole: there are 0 of 2 configs",
        ),
        ('{"format":"setpoint-export","version":1}\n', "is not whole"),
    ],
)
def test_a_broken_file_is_refused_before_anything_is_written(alone: Setpoint, text: str, why: str) -> None:
    """The line that is wrong is named, and no daemon is asked."""
    assert why in alone.refused(5, "import", "-", stdin=text)


def test_the_history_is_exported(new_setpoint: NewSetpoint) -> None:
    """As JSON Lines it is what the wire has, newest first; as CSV old and new are JSON. It goes on where it was."""
    one = new_setpoint()
    first = json.dumps({"a": 1, "b": 'two\nlines, and "quotes"'})
    one.ok("set", "stt", "-", "-q", "--reason", "first,\nthen", stdin=first)
    one.ok("set", "stt", "a=2", "-q")
    one.ok("export", "h.jsonl", "--history")
    entries = [json.loads(line) for line in (one.home / "h.jsonl").read_text("utf-8").splitlines()]
    assert [(entry["key"], entry.get("old"), entry.get("new")) for entry in entries][:2] == [
        ("b", 'two\nlines, and "quotes"', None),
        ("a", 1, 2),
    ]
    begun = _begun(one, history=True, since=None, until=None)
    (one.home / "h.csv.part").write_text(begun + json.dumps(entries[0]) + '\n{"id": 1}\n', "utf-8")
    assert "1 entries are there" in one("export", "h.csv", "--history").stderr
    rows = list(csv.DictReader(io.StringIO((one.home / "h.csv").read_text("utf-8"))))
    assert [int(row["id"]) for row in rows] == [entry["id"] for entry in entries]
    assert json.loads(rows[0]["old"]) == 'two\nlines, and "quotes"'
    assert (rows[0]["new"], rows[-1]["reason"]) == ("", "first,\nthen")
    one.refused(2, "export", "x", "--since", "1h")


def test_batches_keep_within_their_bounds() -> None:
    """At most so many and so many bytes in each, in the same order; what is too large stands alone."""
    changes = [{"n": "x" * size} for size in (10, 10, 500, 10, 10, 10)]
    found = [[len(one["n"]) for one in batch] for batch in batches(changes, 2, 100)]
    assert found == [[10, 10], [500], [10, 10], [10]]
