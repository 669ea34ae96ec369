"""How one config follows from another: differences, key changes, merge patches."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import strictjson
from setpoint_contracts.config import Difference
from setpoint_contracts.difference import differences, merge_patch
from setpointd.store.keys_changed import key_changes

# Few keys and values, some of them equal for Python and not for JSON, so that two configs often share some.
_KEYS = st.sampled_from(["a", "b", "c", "/", "~", "~1", ""])
_LEAVES = st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, 0.0, -0.0, 2**60, "", "1", "é"])
JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(_KEYS, JSON, max_size=4)

# RFC 7396, appendix A: target, patch, result.
RFC_7396 = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]


def applied(old: dict[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    """Carry out differences one by one, as a reader of the wire would (RFC 6901 pointers)."""
    new = copy.deepcopy(old)
    for change in changes:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:]]
        place: dict[str, Any] = new
        for parent in parents:
            place = place[parent]
        if change["op"] == "remove":
            assert strictjson.canonical(place.pop(last)) == strictjson.canonical(change["old"])
            continue
        if change["op"] == "replace":
            assert strictjson.canonical(place[last]) == strictjson.canonical(change["old"])
        else:
            assert last not in place
        place[last] = change["new"]
    return new


def without_nulls(value: Any) -> Any:
    """Leave out every member that is null, however deep: what a merge patch can make out of nothing."""
    if not isinstance(value, dict):
        return value
    return {key: without_nulls(member) for key, member in value.items() if member is not None}


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396, ids=[f"{t} {p}" for t, p, _ in RFC_7396])
def test_merge_patches_of_the_rfc(target: str, patch: str, result: str) -> None:
    """Every example of RFC 7396, appendix A, has the result that stands there."""
    assert merge_patch(json.loads(target), json.loads(patch)) == json.loads(result)


@given(JSON, JSON)
def test_a_merge_patch_leaves_its_target_alone(target: Any, patch: Any) -> None:
    """The target and the patch are what they were before."""
    before = copy.deepcopy((target, patch))
    merge_patch(target, patch)
    assert (target, patch) == before


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_twice_is_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """Applied again, a patch changes nothing more."""
    once = merge_patch(target, patch)
    assert strictjson.canonical(merge_patch(once, patch)) == strictjson.canonical(once)


@given(OBJECTS)
def test_a_merge_patch_of_nothing_is_the_patch_without_nulls(patch: dict[str, Any]) -> None:
    """On an empty object a patch gives itself, without the members that would remove something."""
    assert strictjson.canonical(merge_patch({}, patch)) == strictjson.canonical(without_nulls(patch))


@given(OBJECTS, OBJECTS)
def test_differences_make_the_new_out_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Carried out on the old config, the differences give the new one exactly, types included."""
    changes = differences(old, new)
    assert strictjson.canonical(applied(old, changes)) == strictjson.canonical(new)


@given(OBJECTS, OBJECTS)
def test_every_difference_is_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Each path stands once, has the members of its op, and fits the model of the wire."""
    changes = differences(old, new)
    assert len({change["path"] for change in changes}) == len(changes)
    members = {"add": {"new"}, "remove": {"old"}, "replace": {"old", "new"}}
    for change in changes:
        assert change.keys() == {"op", "path"} | members[change["op"]]
        Difference.model_validate(change)


@given(OBJECTS, OBJECTS)
def test_no_difference_means_the_same_json(old: dict[str, Any], new: dict[str, Any]) -> None:
    """The list is empty exactly when both are the same JSON."""
    assert (not differences(old, new)) == (strictjson.canonical(old) == strictjson.canonical(new))


@pytest.mark.parametrize(("old", "new"), [(1, True), (1.0, True), (0, False), (0, None), ("1", 1), ([1], [True])])
def test_values_that_only_python_takes_for_equal_differ(old: Any, new: Any) -> None:
    """A boolean is no number, and text is none, inside an array too."""
    assert differences({"a": old}, {"a": new}) == [{"op": "replace", "path": "/a", "old": old, "new": new}]


@pytest.mark.parametrize(("old", "new"), [(1, 1.0), (0, -0.0), ([1], [1.0]), ({"n": 1}, {"n": 1.0}), (100, 1e2)])
def test_numbers_are_compared_by_their_value(old: Any, new: Any) -> None:
    """1 and 1.0 are one value, inside an array and an object too: no difference, and no key changed."""
    assert differences({"a": old}, {"a": new}) == []
    assert key_changes({"a": old}, {"a": new}) == []


def test_the_order_of_members_makes_no_difference() -> None:
    """Objects are the same whatever the order of their members, arrays are not."""
    assert differences({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}) == []
    assert len(differences({"a": [1, 2]}, {"a": [2, 1]})) == 1


def test_paths_are_json_pointers() -> None:
    """A path goes down to the member that differs, with ~ and / escaped as RFC 6901 has it."""
    old = {"log": {"level": "info", "~/x": 1}, "gone": [1]}
    new = {"log": {"level": "debug", "~/x": 2, "y": None}}
    assert differences(old, new) == [
        {"op": "remove", "path": "/gone", "old": [1]},
        {"op": "replace", "path": "/log/level", "old": "info", "new": "debug"},
        {"op": "add", "path": "/log/y", "new": None},
        {"op": "replace", "path": "/log/~0~1x", "old": 1, "new": 2},
    ]


@given(OBJECTS, OBJECTS)
def test_key_changes_make_the_new_keys_out_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Key changes, carried out on the old keys and their JSON texts, give the new ones."""
    keys = {key: strictjson.canonical(value) for key, value in old.items()}
    for change in key_changes(old, new):
        assert keys.get(change.key) == change.old
        assert change.old != change.new
        assert change.op == ("add" if change.old is None else "remove" if change.new is None else "replace")
        if change.new is None:
            del keys[change.key]
        else:
            keys[change.key] = change.new
    assert keys == {key: strictjson.canonical(value) for key, value in new.items()}


def test_what_stands_for_a_secret_is_one_value() -> None:
    """It is replaced whole, by another or by an object, and never looked into."""
    old = {"a": {"$secret": "0a1b2c3d"}, "b": {"$secret": "0a1b2c3d"}, "c": {"$secret": "0a1b2c3d"}}
    new = {"a": {"$secret": "3d2c1b0a"}, "b": {"n": 1}, "c": {"$secret": "0a1b2c3d"}}
    assert differences(old, new) == [
        {"op": "replace", "path": f"/{key}", "old": old[key], "new": new[key]} for key in ("a", "b")
    ]


def test_a_patch_merges_into_what_a_secret_is() -> None:
    """Only where it changes something inside; given whole, or as it is shown, it takes the place of the other."""
    secret = {"$secret": "0a1b2c3d"}
    target = {"deep": {"login": secret, "other": secret}}
    opened: list[tuple[object, ...]] = []

    def open_secret(path: tuple[object, ...], value: object) -> dict[str, int]:
        assert value == secret
        opened.append(path)
        return {"pin": 1, "age": 2}

    def merged(patch: dict[str, object]) -> object:
        return merge_patch(target, patch, open_secret)

    assert merged({"deep": {"login": {"pin": None}}}) == {"deep": {"login": {"age": 2}, "other": secret}}
    assert opened == [("deep", "login")]
    assert merged({"deep": {"login": "x", "other": secret}}) == {"deep": {"login": "x", "other": secret}}
    assert merged({"deep": {"login": None}}) == {"deep": {"other": secret}}
    assert len(opened) == 1
