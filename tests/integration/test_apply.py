"""``apply``: changes of several services, all or none of them (wire section 6)."""

from typing import Any

import pytest

from tests.caller import Caller, calling
from tests.daemon import Daemon


def change(op: str, service: str, **more: Any) -> dict[str, Any]:
    """One change of the list."""
    return {"op": op, "service": service, **more}


async def test_all_changes_have_one_revision(admin: Caller, service: str) -> None:
    """A set, a patch and a delete are one revision, each with its document and its difference, in their order."""
    for name, config in (("b", {"x": 1}), ("c", {"y": 1})):
        await admin.ok("set", {"service": f"{service}-{name}", "config": config})
    before = await admin.call("status")
    reply = await admin.call(
        "apply",
        {
            "changes": [
                change("set", f"{service}-a", config={"n": None}, expected_version=0),
                change("patch", f"{service}-b", patch={"x": 2, "z": 3}, expected_version=1),
                change("delete", f"{service}-c"),
            ],
            "reason": "all at once",
        },
    )
    assert reply.result is not None
    assert reply.revision == before.revision + 1
    first, second, third = reply.result["results"]
    assert {document["revision"] for document in (first, second, third)} == {reply.revision}
    assert (first["version"], first["config"], first["diff"]) == (
        1,
        {"n": None},
        [{"op": "add", "path": "/n", "new": None}],
    )
    assert (second["version"], second["config"]) == (2, {"x": 2, "z": 3})
    assert (third["version"], third["deleted"], third["diff"]) == (2, True, [{"op": "remove", "path": "/y", "old": 1}])
    assert await admin.ok("get", {"service": f"{service}-b"}) == {
        name: value for name, value in second.items() if name not in {"changed", "diff"}
    }


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"op": "set", "config": {"n": 2}, "expected_version": 7}, "version_conflict"),
        ({"op": "patch", "patch": {"n": 2}}, "not_found"),
        ({"op": "delete"}, "not_found"),
        ({"op": "set", "config": {"n": "x" * 131_072}}, "too_large"),
    ],
    ids=["version_conflict", "not_found", "delete_not_found", "too_large"],
)
async def test_one_refusal_undoes_all(admin: Caller, service: str, bad: dict[str, Any], code: str) -> None:
    """When one change cannot be made, none is; the error names its index, and carries what it always does."""
    changes = [change("set", service, config={"n": 1}), {**bad, "service": f"{service}-bad"}]
    reply = await admin.call("apply", {"changes": changes})
    assert reply.error is not None
    assert (reply.error.code, reply.error.details["index"]) == (code, 1)
    assert ("current" in reply.error.details) == (code == "version_conflict")
    assert (await admin.error("get", {"service": service}))["code"] == "not_found"


async def test_what_changes_nothing_makes_no_version(admin: Caller, service: str) -> None:
    """A change that is one already is told of as such; when all are, there is no revision."""
    await admin.ok("set", {"service": service, "config": {"n": 1}})
    before = await admin.call("status")
    reply = await admin.call("apply", {"changes": [change("set", service, config={"n": 1.0})]})
    assert reply.result is not None
    (result,) = reply.result["results"]
    assert (result["changed"], result["diff"], result["version"]) == (False, [], 1)
    assert reply.revision == before.revision


async def test_a_dry_run_writes_nothing(admin: Caller, service: str) -> None:
    """It answers with what would be, and leaves everything as it is."""
    changes = [change("set", f"{service}-{name}", config={"n": 1}) for name in "ab"]
    result = await admin.ok("apply", {"changes": changes, "dry_run": True})
    assert result["dry_run"] is True
    assert [document["version"] for document in result["results"]] == [1, 1]
    assert (await admin.error("get", {"service": f"{service}-a"}))["code"] == "not_found"


async def test_each_change_needs_its_own_right(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Deleting needs more than writing, and a scope holds for every service; one that is not allowed refuses all."""
    operator = shared_daemon.new_token("op", "operator", "--services", f"{service}*")
    async with calling(shared_daemon, operator) as caller:
        await admin.ok("set", {"service": service, "config": {}})
        fine = change("set", f"{service}-a", config={})
        for other, needs in (
            (change("delete", service), "config.delete"),
            (change("set", "x", config={}), "config.write"),
        ):
            error = await caller.error("apply", {"changes": [fine, other]})
            assert (error["code"], error["details"]) == (
                "forbidden",
                {"needs": needs, "service": other["service"]},
            )
        assert (await admin.error("get", {"service": f"{service}-a"}))["code"] == "not_found"
        await caller.ok("apply", {"changes": [fine]})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ([], "changes"),
        ([change("set", f"s{n}", config={}) for n in range(129)], "changes"),
        ([change("set", "a", config={}), change("delete", "a")], "changes.1.service"),
        ([change("set", "a", config={}), change("set", "B", config={})], "changes.1.service"),
        ([change("set", "a")], "changes.0.config"),
        ([change("set", "a", config={}, patch={})], "changes.0.patch"),
        ([change("delete", "a", patch={})], "changes.0.patch"),
        ([change("move", "a")], "changes.0.op"),
    ],
)
async def test_changes_that_do_not_fit_are_named(admin: Caller, changes: list[dict[str, Any]], field: str) -> None:
    """None, too many, two of one service, or one that is not what its op takes: `bad_request`, by its index."""
    error = await admin.error("apply", {"changes": changes})
    assert (error["code"], error["details"]["errors"][0]["field"]) == ("bad_request", field)
