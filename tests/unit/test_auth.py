"""Who sent a command, and may they."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import COMMANDS, Code, Command, Permission, Role, Token
from setpoint_contracts.names import GLOB_PATTERN, SERVICE_PATTERN
from setpoint_contracts.timestamps import rfc3339
from setpointd.auth import Keyring, Principal, authorise, check_rights, check_token, principal_of
from setpointd.errors import Rejected

NOW = 1_767_225_600.0
PERMISSIONS = {
    "viewer": {"config.read"},
    "operator": {"config.read", "config.write"},
    "admin": {"config.read", "config.write", "config.delete", "admin.manage"},
}
GET, SET, DELETE, TOKENS = (
    COMMANDS["get"].model_validate({"service": "stt"}),
    COMMANDS["set"].model_validate({"service": "stt", "config": {}}),
    COMMANDS["delete"].model_validate({"service": "stt"}),
    COMMANDS["token/list"].model_validate({}),
)


def principal(role: str = "admin", services: list[str] | None = None, **times: float) -> Principal:
    """Make the holder of a new token; times in POSIX seconds."""
    given_times = {name: rfc3339(seconds) for name, seconds in times.items()}
    return principal_of(Token.new("HS256", "tok_a", "alice", Role(role), services=services, **given_times))


def refusal(who: Principal, command: Command) -> Rejected:
    """Authorise what must not be allowed."""
    with pytest.raises(Rejected) as caught:
        authorise(who, command)
    assert caught.value.code is Code.FORBIDDEN
    return caught.value


@pytest.mark.parametrize("role", PERMISSIONS)
@pytest.mark.parametrize("command", [GET, SET, DELETE, TOKENS], ids=lambda command: command.name)
def test_a_role_has_its_permissions_and_no_more(role: str, command: Command) -> None:
    """Viewers read, operators also write, admins also delete and manage."""
    if command.needs in PERMISSIONS[role]:
        authorise(principal(role), command)
    else:
        assert refusal(principal(role), command).details["needs"] == command.needs


@pytest.mark.parametrize("command", [GET, SET, DELETE], ids=lambda command: command.name)
def test_a_scope_narrows_a_role(command: Command) -> None:
    """A token for other services may not touch this one, whatever its role; the refusal names the service."""
    assert refusal(principal(services=["tts", "st", "sttt"]), command).details["service"] == "stt"
    authorise(principal(services=["tts", "st?"]), command)


def test_what_names_no_service_needs_no_scope() -> None:
    """A command that touches no service is a matter of the role alone."""
    authorise(principal(services=["tts"]), TOKENS)


@pytest.mark.parametrize(
    ("role", "services"),
    [("viewer", None), ("viewer", ["stt"]), ("admin", ["stt"]), ("admin", ["x"])],
)
def test_what_somebody_did_not_name_is_not_named_to_it(role: str, services: list[str] | None) -> None:
    """Who lacks the permission for one of many services is refused, and learns of none of them."""
    with pytest.raises(Rejected) as caught:
        check_rights(principal(role, services), "profile/delete", Permission.DELETE, ["stt", "tts"])
    assert (caught.value.code, caught.value.details) == (Code.FORBIDDEN, {"needs": Permission.DELETE})
    assert "tts" not in caught.value.message


def test_rights_for_all_or_for_nothing() -> None:
    """Who has the permission for all of them passes, and so does anybody where there is none."""
    check_rights(principal(services=["?t*"]), "profile/delete", Permission.DELETE, ["stt", "tts"])
    check_rights(principal("viewer", ["x"]), "profile/delete", Permission.DELETE, [])


@given(
    st.lists(st.from_regex(re.compile(GLOB_PATTERN, re.ASCII), fullmatch=True), min_size=1, max_size=4),
    st.from_regex(re.compile(SERVICE_PATTERN, re.ASCII), fullmatch=True),
)
def test_a_scope_is_any_of_its_shell_patterns(globs: list[str], service: str) -> None:
    """Whatever patterns a token may hold, it sees exactly the services that one of them matches."""
    globs = [glob.strip("\n") for glob in globs]
    assert principal(services=globs).sees(service) == any(fnmatchcase(service, glob) for glob in globs)


def test_a_valid_token_passes() -> None:
    """Neither revoked nor run out: nothing is said."""
    check_token(principal(), NOW)
    check_token(principal(expires_at=NOW + 0.001), NOW)


@pytest.mark.parametrize("expired_s", [0, 0.001, 86_400])
def test_an_expired_token_is_refused(expired_s: float) -> None:
    """At the very moment of its expiry a token is of no use any more."""
    with pytest.raises(Rejected) as caught:
        check_token(principal(expires_at=NOW - expired_s), NOW)
    assert caught.value.code is Code.TOKEN_EXPIRED


def test_a_revoked_token_is_refused_as_revoked() -> None:
    """Revoked comes before expired, and holds even when the clock was set back behind the revocation."""
    for now in (NOW, NOW - 86_400):
        with pytest.raises(Rejected) as caught:
            check_token(principal(revoked_at=NOW, expires_at=NOW - 90_000), now)
        assert caught.value.code is Code.TOKEN_REVOKED


def test_a_keyring_finds_by_kid() -> None:
    """Each token is found by its own kid, with its own algorithm and holder; others are not found."""
    tokens = [Token.new("HS256", "tok_a", "alice", Role.ADMIN), Token.new("Ed25519", "tok_b", "bob", Role.VIEWER)]
    keyring = Keyring([token.public() for token in tokens])
    assert keyring.find("tok_c") is None
    for token in tokens:
        found = keyring.find(token.kid)
        assert found is not None
        key, who = found
        assert (key.alg, who.kid, who.name, who.role) == (token.alg, token.kid, token.name, token.role)


def test_every_permission_is_somebodys() -> None:
    """The admin has all permissions there are."""
    assert {str(permission) for permission in Permission} == PERMISSIONS["admin"]
