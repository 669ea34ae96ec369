"""Topics, and which of them may be reply topics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import Topics

ROOT = "config/reply/admin/"


def test_topics_are_those_of_the_wire() -> None:
    """Every topic is spelled as the wire has it."""
    topics = Topics()
    assert topics.commands == "config/cmd/#"
    assert topics.command("token/list") == "config/cmd/token/list"
    assert topics.reply("admin", "1") == "config/reply/admin/1"
    assert topics.updated("stt") == "config/updated/stt"
    assert topics.all_updated == "config/updated/+"
    assert topics.schema("stt") == "config/schema/stt"
    assert topics.all_schemas == "config/schema/+"
    assert topics.epoch == "config/epoch"
    assert topics.audit("auth_failure") == "audit/config/auth_failure"
    assert topics.health == "system/health/config-manager"
    assert topics.keys == "system/keys/config-manager"
    assert topics.look_ask == "system/look/config-manager/ask"
    assert topics.applied("stt", "pi-1") == "config/applied/stt/pi-1"
    assert topics.all_applied == "config/applied/+/+"


def test_a_prefix_stands_before_every_topic() -> None:
    """With a prefix, each topic is the plain one behind it."""
    plain, prefixed = Topics(), Topics("site1/")
    for name in ("commands", "all_updated", "all_schemas", "all_applied", "epoch", "health", "keys", "look_ask"):
        assert getattr(prefixed, name) == "site1/" + getattr(plain, name)
    assert prefixed.command("set") == "site1/config/cmd/set"
    assert prefixed.reply("a", "b") == "site1/config/reply/a/b"
    assert prefixed.updated("stt") == "site1/config/updated/stt"
    assert prefixed.schema("stt") == "site1/config/schema/stt"
    assert prefixed.audit("x") == "site1/audit/config/x"


@pytest.mark.parametrize("prefix", ["", "site1/"])
def test_names_are_read_back_from_topics(prefix: str) -> None:
    """A command's and a service's name come back from their topics; elsewhere there is none."""
    topics = Topics(prefix)
    assert topics.command_name(topics.command("profile/save")) == "profile/save"
    assert topics.command_name(topics.updated("stt")) == ""
    assert topics.updated_service(topics.updated("stt")) == "stt"
    assert topics.updated_service(topics.epoch) is None
    assert topics.schema_service(topics.schema("stt")) == "stt"
    assert topics.schema_service(topics.updated("stt")) is None
    assert topics.applied_by(topics.applied("stt", "pi-1")) == ("stt", "pi-1")
    assert topics.applied_by(topics.applied("", "")) == ("", "")
    assert topics.applied_by(topics.updated("stt")) is None
    assert topics.command_name("other/" + topics.command("set")) == ""


@pytest.mark.parametrize("prefix", ["", "site1/"])
def test_own_topics_are_told_apart(prefix: str) -> None:
    """The daemon's own topics are known, the question who is there too; others are not, nor another prefix."""
    topics = Topics(prefix)
    assert topics.own(topics.health) == "health"
    assert topics.own(topics.epoch) == "epoch"
    assert topics.own(topics.updated("stt")) == "updated"
    assert topics.own(topics.schema("stt")) == "schema"
    assert topics.own(topics.keys) == "keys"
    assert topics.own(topics.look_ask) == "ask"
    others = (f"{topics.look}/1", topics.command("set"), topics.updated("a/b"), topics.schema(""), "")
    assert [topics.own(topic) for topic in others] == [None] * 5
    assert Topics(prefix + "x/").own(topics.epoch) is None


@pytest.mark.parametrize("rest", ["1", "a/b/c", "with space", "é", "x" * 237, "/".join("x" * 61)])
def test_a_principals_own_topics_are_allowed(rest: str) -> None:
    """Below the principal's own root, up to 256 bytes and 64 levels, a reply topic is as the caller likes."""
    assert Topics().reply_refusal("admin", ROOT + rest) is None


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("", "begins with"),
        (ROOT, "begins with"),
        ("config/reply/admin", "begins with"),
        ("config/reply/administrator/x", "begins with"),
        ("config/reply/dash/x", "begins with"),
        ("config/updated/stt", "begins with"),
        ("site1/" + ROOT + "x", "begins with"),
        (ROOT + "#", "wildcard"),
        (ROOT + "a/+/b", "wildcard"),
        (ROOT + "a+", "wildcard"),
        (ROOT + "x" * 238, "256 bytes"),
        (ROOT + "é" * 119, "256 bytes"),
        (ROOT + "/".join("x" * 62), "64 levels"),
        (ROOT + "/" * 61, "64 levels"),
        (ROOT + "a\0b", "printable"),
        (ROOT + "a\nb", "printable"),
        (ROOT + "\x7f", "printable"),
        (ROOT + "\N{NEXT LINE}", "printable"),
        (ROOT + "\uffff", "printable"),
        (ROOT + "\ud800", "printable"),
    ],
)
def test_other_topics_are_refused_with_the_reason(topic: str, why: str) -> None:
    """Somebody else's topic, wildcards, unprintable characters, and too much of anything are refused."""
    assert why in (Topics().reply_refusal("admin", topic) or "")


@given(st.text(st.characters(codec=None)))
def test_any_text_is_judged(rest: str) -> None:
    """Whatever a caller writes, there is an answer, and what is allowed can be published."""
    if Topics().reply_refusal("admin", ROOT + rest) is None:
        assert 0 < len((ROOT + rest).encode()) <= 256
        assert not set(rest) & {"#", "+", "\0"}
