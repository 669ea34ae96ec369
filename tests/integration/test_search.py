"""``search``: keys by a text in their name or value (wire section 6)."""

import asyncio

from tests.caller import Caller, calling
from tests.daemon import Daemon


async def test_search_finds_keys_and_values(admin: Caller, service: str) -> None:
    """In any case, nested too, by service and key, each with its value as it is."""
    needle = service.removeprefix("svc-")
    await admin.ok("set", {"service": f"{service}-b", "config": {f"k_{needle}": [1.5, None], "n": 1}})
    await admin.ok(
        "set", {"service": f"{service}-a", "config": {"z": {needle.upper(): "é"}, "a": f"<{needle}>", "n": 1}}
    )
    expected = [
        {"service": f"{service}-a", "key": "a", "value": f"<{needle}>"},
        {"service": f"{service}-a", "key": "z", "value": {needle.upper(): "é"}},
        {"service": f"{service}-b", "key": f"k_{needle}", "value": [1.5, None]},
    ]
    assert (await admin.ok("search", {"query": needle.upper()}))["matches"] == expected
    assert (await admin.ok("search", {"query": needle, "limit": 2}))["matches"] == expected[:2]
    assert (await admin.ok("search", {"query": needle, "service": f"{service}-b"}))["matches"] == expected[2:]
    assert (await admin.ok("search", {"query": f"no {needle}"}))["matches"] == []
    assert (await admin.ok("search", {"query": needle, "service": "never-was"}))["matches"] == []


async def test_search_shows_what_the_caller_may_see(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Of a scoped token's services only, as if there were no others."""
    for name in ("a", "b"):
        await admin.ok("set", {"service": f"{service}-{name}", "config": {"it": service}})
    viewer = shared_daemon.new_token("v", "viewer", "--services", f"{service}-[!b]")
    async with calling(shared_daemon, viewer) as caller:
        matches = (await caller.ok("search", {"query": service}))["matches"]
    assert matches == [{"service": f"{service}-a", "key": "it", "value": service}]


async def test_what_is_deleted_or_was_before_is_not_found(admin: Caller, service: str) -> None:
    """Only the newest configs of living services are searched."""
    await admin.ok("set", {"service": service, "config": {"it": f"old {service}"}})
    await admin.ok("set", {"service": service, "config": {"it": f"new {service}"}})
    assert [match["value"] for match in (await admin.ok("search", {"query": service}))["matches"]] == [f"new {service}"]
    await admin.ok("delete", {"service": service})
    assert (await admin.ok("search", {"query": service}))["matches"] == []


async def test_searches_at_once_are_all_answered(admin: Caller, service: str) -> None:
    """Many of them, beside writes: each sees a whole state, and nothing of it is lost."""
    await admin.ok("set", {"service": service, "config": {"a": service, "b": 0}})
    searches = [admin.ok("search", {"query": service, "service": service}) for _ in range(20)]
    writes = [admin.ok("set", {"service": service, "config": {"a": service, "b": n}}) for n in range(1, 20)]
    results = await asyncio.gather(*searches, *writes)
    assert [len(result["matches"]) for result in results[:20]] == [1] * 20
