"""Differences, history, restoring and profiles."""

import json

from tests.cli.command import Setpoint


def test_diff_exits_by_what_it_finds(setpoint: Setpoint, service: str) -> None:
    """Exit code 1 and the difference on standard output when versions differ, 0 when they are the same."""
    setpoint.ok("set", service, "a=1", "b=1", "-q")
    setpoint.ok("patch", service, "a=2", "-q")
    setpoint.ok("patch", service, "a=1", "-q")
    done = setpoint("diff", service)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"{service} version 2 → version 3\n- /a: 2\n+ /a: 1\n"
    same = setpoint("diff", service, "--from", 1, "--to", 3)
    assert (same.returncode, same.stdout) == (0, f"{service} version 1 → version 3: the same\n")
    quiet = setpoint("diff", service, "--from", 1, "--to", 2, "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (1, "", "")
    raw = setpoint("diff", service, "--from", "revision:0", "--to", 1, "-o", "raw")
    assert (raw.returncode, raw.stdout) == (1, "+ /a: 1\n+ /b: 1\n")
    setpoint.refused(3, "diff", service, "--from", 1, "--to", 9)
    setpoint.refused(2, "diff", service, "--from", "first")


def test_the_first_version_differs_from_nothing(setpoint: Setpoint, service: str) -> None:
    """A service with one version is compared with what was there before: nothing."""
    setpoint.ok("set", service, "a=1", "-q")
    done = setpoint("diff", service, "-o", "json")
    assert json.loads(done.stdout)["diff"] == [{"op": "add", "path": "/a", "new": 1}]


def test_history_tells_who_changed_what(setpoint: Setpoint, service: str) -> None:
    """Entries are newest first, filtered as asked; versions have their reasons."""
    setpoint.ok("set", service, "a=1", "b=1", "-q", "--reason", "first")
    setpoint.ok("patch", service, "a=2", "-q", "--reason", "more\tof it")
    table = setpoint.ok("history", service).splitlines()
    assert table[0].split() == ["WHEN", "SERVICE", "VERSION", "CHANGE", "BY", "REASON"]
    assert table[1].endswith("a: 1 → 2       admin  more\\tof it")
    entries = json.loads(setpoint.ok("history", service, "--key", "b", "--since", "1h", "-o", "json"))["entries"]
    assert [(entry["op"], entry["new"]) for entry in entries] == [("add", 1)]
    assert setpoint.ok("history", service, "--limit", 1, "-o", "raw").count("\n") == 1
    versions = json.loads(setpoint.ok("history", service, "--versions", "-o", "json"))["versions"]
    assert [(one["version"], one["reason"]) for one in versions] == [(2, "more\tof it"), (1, "first")]
    setpoint.refused(2, "history", "--versions")
    nothing = setpoint("history", service, "--key", "c")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "there is no such change\n")
    assert "`setpoint list`" in setpoint.refused(3, "history", f"{service}-x")


def test_what_was_is_restored(setpoint: Setpoint, service: str) -> None:
    """A restore is a new version with the old content; it shows the difference, and can be tried first."""
    setpoint.ok("set", service, "a=1", "-q")
    setpoint.ok("set", service, "a=2", "-q")
    tried = setpoint("restore", service, "--version", 1, "--dry-run")
    assert tried.stderr == f"{service} version 2 → 3\n- /a: 2\n+ /a: 1\n"
    assert tried.stdout.splitlines()[1] == f"{service}  3        would change"
    assert setpoint.ok("get", service, "-o", "raw") == '{"a":2}\n'
    setpoint.ok("restore", service, "--version", 1, "--reason", "back")
    assert setpoint.ok("get", service, "-o", "raw") == '{"a":1}\n'
    for wrong in (("--version", 1), (service,), (service, "--all", "--revision", 1), ("--all", "--version", 1)):
        setpoint.refused(2, "restore", *wrong)


def test_profiles_keep_and_bring_back(setpoint: Setpoint, service: str) -> None:
    """A profile is saved, shown, compared with, loaded and deleted; a second one of its name is a conflict."""
    name = f'night / "{service}"'
    setpoint.ok("set", service, "volume=1", "-q")
    setpoint.ok("profile", "save", name, service, "--description", "quiet")
    assert "--overwrite" in setpoint.refused(4, "profile", "save", name, service)
    setpoint.ok("set", service, "volume=9", "-q")
    assert setpoint("diff", service, "--from", f"profile:{name}", "-q", "--to", 2).returncode == 1
    assert name in setpoint.ok("profile", "list", "-o", "raw").splitlines()
    shown = json.loads(setpoint.ok("profile", "show", name, "-o", "json"))
    assert (shown["description"], shown["snapshot"]) == ("quiet", {service: {"volume": 1}})
    loaded = setpoint("profile", "load", name)
    assert loaded.stderr == f"{service} version 2 → 3\n- /volume: 9\n+ /volume: 1\n"
    again = setpoint("profile", "load", name)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "nothing was changed\n")
    setpoint.ok("profile", "delete", name)
    setpoint.refused(3, "profile", "show", name)
