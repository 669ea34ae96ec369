"""``setpoint token``: tokens, made, listed, replaced and revoked by the daemon. A new one goes to a file of its own."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from setpoint.cli.connection import ask, signer
from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Group, Options, pass_options
from setpoint.cli.output import Table, show
from setpoint.cli.times import local

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"([0-9]{1,10})([smhdw])")


class Span(click.ParamType[int]):
    """A length of time, e.g. ``90d``, in seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a number and a unit."""
        found = _SPAN.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is a number and s, m, h, d or w, e.g. 90d", param, ctx)
        return int(found[1]) * _UNITS_S[found[2]]


_out = click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="New file for it, its owner's alone."
)
_public_key = click.option(
    "--public-key", type=click.Path(path_type=Path), metavar="FILE", help="The owner's Ed25519 public key: JWK or PEM."
)


@click.group("token", cls=Group)
def token() -> None:
    """Make, list, replace and revoke tokens. It needs one of an administrator."""


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), required=True, help="What it may do.")
@click.option("--services", metavar="GLOB", multiple=True, help="Services it may touch; may be repeated. [all]")
@click.option("--ttl", type=Span(), metavar="TIME", help="How long it is valid, e.g. 90d. [until revoked]")
@_public_key
@_out
@pass_options
def create(
    options: Options,
    name: str,
    role: str,
    services: tuple[str, ...],
    ttl: int | None,
    public_key: Path | None,
    out: Path | None,
) -> None:
    """Make a token for NAME, the principal that it speaks for, and print its kid.

    Its secret goes to the --out file and nowhere else. With --public-key only its owner has the private key, and no
    file is written.
    """
    params = {"name": name, "role": role, "services": list(services) or None, "ttl_s": ttl}
    _make(options, "token/create", params, public_key, out)


@token.command("rotate")
@click.argument("kid")
@click.option(
    "--grace", type=Span(), metavar="TIME", help="How long the old one still counts, e.g. 1h; 0s: not at all."
)
@_public_key
@_out
@pass_options
def rotate(options: Options, kid: str, grace: int | None, public_key: Path | None, out: Path | None) -> None:
    """Put a new token in the place of KID, and print the kid of the new one."""
    _make(options, "token/rotate", {"kid": kid, "grace_s": grace}, public_key, out)


def _make(options: Options, command: str, params: dict[str, Any], public_key: Path | None, out: Path | None) -> None:
    if (public_key is None) == (out is None):
        raise click.UsageError("give --out FILE for a new secret, or --public-key FILE of a pair, and one of them only")
    if out == Path("-"):
        raise click.UsageError("a secret is not written to standard output: name a new FILE")
    if out is None:
        alg = {"alg": "Ed25519"} if command == "token/create" else {}
        found = ask(options, command, {**params, **alg, "public_jwk": _public_jwk(public_key)})
    else:
        own = signer(options)[2]
        found = {}
        try:
            with _new_private_file(out) as file:
                found = ask(options, command, params)
                file.write(_opened(own, found))
        except OSError as error:
            if not found:
                raise
            told = (
                f"{found['kid']} was made, but its secret could not be written to {out}, and is lost: {error.strerror}"
            )
            raise Failed(told, f"setpoint token revoke {found['kid']}") from None
    show(options, found, _table([found]), raw=found["kid"])


@contextlib.contextmanager
def _new_private_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that is its owner's alone; it is gone again if nothing comes of it."""
    try:
        handle = os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Failed(f"{path} is there already", "name a new file: no token is written over another") from None
    with os.fdopen(handle, "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.expanduser().unlink()
            raise


def _opened(own: Any, found: dict[str, Any]) -> bytes:
    from setpoint_contracts import Token, open_sealed
    from setpoint_contracts.sealing import TOKEN_INFO

    sealed = found.pop("token_jwe", None)
    if sealed is None:
        raise Failed(
            f"{found['kid']} is an {found['alg']} token: it has no secret to write",
            "give its owner's new public key: --public-key FILE",
            Exit.INVALID,
        )
    return Token.parse(open_sealed(own.signing_key(), TOKEN_INFO, sealed)).dump()


def _public_jwk(path: Path | None) -> dict[str, str]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from setpoint_contracts.keys import to_jwk

    if path is None:
        raise click.UsageError("--public-key is needed")
    content = path.expanduser().read_bytes()
    try:
        jwk = json.loads(content)
        return {member: jwk[member] for member in ("kty", "crv", "x", "kid") if member in jwk}
    except (ValueError, TypeError):
        pass
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Failed(f"{path} is no Ed25519 public key", "openssl pkey -in PRIVATE.pem -pubout", Exit.INVALID)
    return {member: value for member, value in to_jwk(key).items() if member in {"kty", "crv", "x"}}


@token.command("list")
@pass_options
def list_(options: Options) -> None:
    """List all tokens, oldest first; never a secret."""
    found = ask(options, "token/list")
    show(options, found, _table(found["tokens"]), raw=[one["kid"] for one in found["tokens"]])


@token.command("revoke")
@click.argument("kid")
@pass_options
def revoke(options: Options, kid: str) -> None:
    """Revoke a token for good."""
    found = ask(options, "token/revoke", {"kid": kid})
    show(options, found, _table([found]), raw=found["kid"])


def _table(tokens: list[dict[str, Any]]) -> Table:
    rows = [
        (one["kid"], one["name"], one["role"], ", ".join(one.get("services") or ["all"]), one["alg"], _state(one))
        for one in tokens
    ]
    return Table(
        ("KID", "NAME", "ROLE", "SERVICES", "ALG", "STATE"), rows, styles={0: "bold"}, words={"revoked": "red"}
    )


def _state(one: dict[str, Any]) -> str:
    if one.get("revoked_at"):
        return "revoked"
    return f"until {local(one['expires_at'])}" if one.get("expires_at") else "valid"
