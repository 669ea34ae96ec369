"""Keys: what joserfc, another implementation of the same RFCs, makes of them and makes for them."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwe
from joserfc.jwk import OctKey, OKPKey

from setpoint_contracts.keys import (
    Secret,
    from_base64url,
    private_key,
    public_key,
    secret_key,
    thumbprint,
    to_base64url,
    to_jwk,
)
from setpoint_contracts.sealing import NotSealedError, seal, unseal

SECRET = bytes(range(32))


def test_a_jwk_is_what_others_write() -> None:
    """A secret, a pair and its public half have the same members, and each reads what the other wrote."""
    secret, pair = OctKey.import_key(SECRET), OKPKey.generate_key("Ed25519")
    theirs = pair.as_dict(private=True)
    assert to_jwk(Secret(SECRET)) == secret.as_dict(private=True)
    assert secret_key(str(secret.as_dict(private=True)["k"])) == Secret(SECRET)
    assert to_jwk(private_key(str(theirs["d"]))) == theirs
    assert to_jwk(public_key(str(theirs["x"]))) == pair.as_dict(private=False)


def test_a_thumbprint_is_rfc_7638s() -> None:
    """The daemon is known by the start of it."""
    key = Ed25519PrivateKey.generate().public_key()
    assert thumbprint(key) == OKPKey.import_key(key).thumbprint()


@pytest.mark.parametrize("text", ["AA", "A" * 42, "A" * 42 + "B", "A" * 43 + "=", "é" * 43, ""])
def test_what_is_no_key_of_32_bytes_is_refused(text: str) -> None:
    """Too short, too long, or spelled in a second way."""
    for read in (private_key, public_key, secret_key):
        with pytest.raises(ValueError, match=r"."):
            read(text)


@pytest.mark.parametrize("size", [0, 16, 24, 33])
def test_a_key_of_another_size_seals_nothing(size: int) -> None:
    """With 16 or 24 bytes it would be another cipher than the header says."""
    with pytest.raises(ValueError, match="must have 32"):
        seal(bytes(size), b"secret")
    with pytest.raises(NotSealedError):
        unseal(bytes(size), seal(SECRET, b"secret"))


def test_base64url_has_one_spelling() -> None:
    """Padding, the other alphabet, stray bits and anything between the characters are refused."""
    assert from_base64url(to_base64url(b"\xfb\xff\xfe")) == b"\xfb\xff\xfe"
    for other in (b"-__-=", b"+//+", b"-__-\n", b"-_ _-", b"AB"):
        with pytest.raises(ValueError, match="one spelling"):
            from_base64url(other)


def test_a_secret_stays_out_of_its_repr() -> None:
    """Not as bytes either."""
    assert repr(Secret(SECRET)) == "Secret()"


def test_what_a_store_sealed_with_another_library_opens() -> None:
    """The rows of a store were written by joserfc before; what is written now is no different."""
    header, theirs = {"alg": "dir", "enc": "A256GCM", "kid": "tok_1"}, OctKey.import_key(SECRET)
    assert unseal(SECRET, jwe.encrypt_compact(header, b"secret", theirs)) == (b"secret", "tok_1")
    opened = jwe.decrypt_compact(seal(SECRET, b"secret", "tok_1"), theirs)
    assert (opened.plaintext, opened.protected) == (b"secret", header)


@pytest.mark.parametrize("more", [{"zip": "DEF"}, {"cty": "JWT"}, {"kid": ""}], ids=["zip", "cty", "kid"])
def test_who_sealed_something_else_is_refused(more: dict[str, str]) -> None:
    """A header has a kid at most, and what it says is bound to what was sealed."""
    sealed = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM", **more}, b"secret", OctKey.import_key(SECRET))
    if "kid" in more:
        head = to_base64url(b'{"alg":"dir","enc":"A256GCM","kid":"another"}').decode()
        sealed = head + sealed[sealed.index(".") :]
    with pytest.raises(NotSealedError):
        unseal(SECRET, sealed)
