"""``setpointd token``: tokens, made and revoked straight in the store. A running daemon goes by them at the end."""

import base64
import contextlib
import os
import re
import secrets
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any, get_args

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import ValidationError

from setpoint_contracts import Role, Token, strictjson
from setpoint_contracts.access import MAX_TTL_S, TokenInfo
from setpoint_contracts.misfits import line, misfits
from setpoint_contracts.timestamps import rfc3339
from setpoint_contracts.tokens import Algorithm, TokenFileError
from setpointd import loaded
from setpointd.errors import OperatorError
from setpointd.keys import Keys, holder, write_private
from setpointd.operator.data_dir import data_dir_option
from setpointd.records import Stamp
from setpointd.store.files import reading, writing

ACTOR = "setpointd"
"""Who did it, in audit events: somebody who may write to the data directory."""

NOTICED_S = 5.0
"""How long a running daemon has for taking a change in."""

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TTL = re.compile(r"([1-9][0-9]{0,9})([smhdw])")

_a_file = click.Path(path_type=Path)


def stamp() -> Stamp:
    """Say who does something here, and when."""
    return Stamp(rfc3339(time.time()), ACTOR)


def new_kid() -> str:
    """Make up a token id."""
    return f"tok_{secrets.token_hex(8)}"


def issue(data_dir: Path, token: Token, file: Path | None) -> None:
    """Add a token to the store and write it to a file, if one is named: both or neither.

    Of an Ed25519 token the store gets the public half only. Raises ``OperatorError``, ``OSError`` or ``sqlite3.Error``.
    """
    keys = Keys.load(data_dir)
    with contextlib.ExitStack() as undo:
        if file is not None:
            write_private(file, token.dump())
            undo.callback(file.unlink)
        with writing(data_dir, stamp()) as tx:
            # All are opened: a key of another store must not seal what this one's daemon cannot open.
            if kid := holder(token, [keys.restore(row) for row in tx.tokens.all()]):
                member = "k" if token.k else "x"
                raise OperatorError(
                    f"{member}: token {kid} has this key already, and a key has one kid: make a new one"
                )
            try:
                tx.tokens.add(token, keys.store_form(token))
            except sqlite3.IntegrityError:
                raise OperatorError(f"there is a token with the kid {token.kid} already") from None
        undo.pop_all()
    _wait_for_daemon(data_dir)


def _wait_for_daemon(data_dir: Path) -> None:
    """Return when the daemon that runs on the store goes by its tokens as they are now, or say that it does not."""

    def stored() -> str:
        with reading(data_dir) as snapshot:
            return loaded.digest(snapshot.tokens.all())

    if loaded.wait(data_dir, stored, NOTICED_S) == "not noticed":
        click.echo(
            f"setpointd: done, but the daemon on {data_dir} has not noticed within {NOTICED_S:.0f} s, and goes by the"
            " tokens as they were: see its log, or start it again",
            err=True,
        )


@click.group("token")
def command() -> None:
    """Make, import, list and revoke tokens.

    These commands work on the store itself. When they return, a daemon that runs on it goes by the change; if it has
    not noticed, they say so.
    """


@command.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it may do.")
@click.option("--services", metavar="GLOB", multiple=True, help="Services it may touch; may be repeated. Default: all.")
@click.option("--ttl", metavar="TIME", help="How long it is valid, e.g. 90d; s, m, h, d or w. Default: until revoked.")
@click.option("--alg", type=click.Choice(get_args(Algorithm)), help="How it signs. Default: HS256, a shared secret.")
@click.option("--public-key", type=_a_file, metavar="FILE", help="The owner's Ed25519 public key, as PEM or JWK.")
@click.option("--out", type=_a_file, metavar="FILE", help="New file for the token, readable by its owner only.")
@data_dir_option
def create(
    data_dir: Path,
    name: str,
    role: str,
    services: tuple[str, ...],
    ttl: str | None,
    alg: str | None,
    public_key: Path | None,
    out: Path | None,
) -> None:
    """Make a token for NAME, the principal that it speaks for, and print its kid.

    The key goes to the --out file and nowhere else: keep it safe, it cannot be shown again. Of an Ed25519 token the
    store keeps the public half only. With --public-key no private key is made at all; the --out file, which may then
    be left out, gets the public token.
    """
    if public_key is None and out is None:
        raise click.UsageError("--out FILE is needed: it is the only place where the new key is written")
    if public_key is not None and alg not in {None, "Ed25519"}:
        raise click.UsageError("--public-key is for Ed25519")
    expires_at = None if ttl is None else rfc3339(time.time() + _seconds(ttl))
    more = {"services": services or None, "expires_at": expires_at}
    try:
        if public_key is None:
            token = Token.new("Ed25519" if alg == "Ed25519" else "HS256", new_kid(), name, Role(role), **more)
        else:
            token = Token.model_validate({"name": name, "role": role, **_public_jwk(public_key), **more})
    except ValidationError as error:
        raise OperatorError(line(misfits(error, 1)[0])) from None
    issue(data_dir, token, out)
    click.echo(token.kid)


@command.command("import")
@click.argument("file", type=_a_file)
@data_dir_option
def import_(data_dir: Path, file: Path) -> None:
    """Add the token in FILE to the store and print its kid.

    FILE is a JWK with kid, name, role, and perhaps services and expires_at. With a secret in it, only its owner may be
    able to read it. An Ed25519 key may be the public half; the private half, if it is there, is not kept.
    """
    with file.open("rb") as opened:
        content, mode = opened.read(), os.fstat(opened.fileno()).st_mode
    try:
        token = Token.parse(content)
    except TokenFileError as error:
        raise OperatorError(f"{file}: {str(error.args[0]).replace(': Field required', ' is missing')}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and (token.k or token.d):
        raise OperatorError(f"{file} is open to others, so its key is no secret: make a new token, or `chmod 600` it")
    if token.revoked_at is not None:
        raise OperatorError(f"{file}: revoked_at: a token that was revoked is not taken back")
    issue(data_dir, token.public(), None)
    click.echo(token.kid)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help='As JSON, {"tokens":[…]}, for programs.')
@data_dir_option
def list_(data_dir: Path, *, as_json: bool) -> None:
    """List all tokens, oldest first, without their keys."""
    with reading(data_dir) as snapshot:
        tokens = [{field: row[field] for field in TokenInfo.model_fields} for row in snapshot.tokens.all()]
    click.echo(strictjson.dumps({"tokens": tokens}) if as_json else _table(tokens))


@command.command("revoke")
@click.argument("kid")
@data_dir_option
def revoke(data_dir: Path, kid: str) -> None:
    """Revoke the token KID for good, be it the last admin token. `setpointd token list` shows the kids."""
    with writing(data_dir, stamp()) as tx:
        if tx.tokens.one(kid) is None:
            raise OperatorError(f"there is no token with the kid {kid!r}: see `setpointd token list`")
        revoked = tx.tokens.revoke(kid)
    _wait_for_daemon(data_dir)
    click.echo(f"{kid} is revoked" if revoked else f"{kid} was revoked before")


def _seconds(ttl: str) -> int:
    found = _TTL.fullmatch(ttl)
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not 0 < seconds <= MAX_TTL_S:
        raise click.UsageError("--ttl is a number and s, m, h, d or w, e.g. 90d, and at most 100 years")
    return seconds


def _public_jwk(file: Path) -> dict[str, Any]:
    """Read an Ed25519 public key. Its kid is the JWK's own, else a new one."""
    content = file.read_bytes()
    if content.lstrip().startswith(b"{"):
        found = _read_jwk(file, content)
        x, kid, private = found.get("x"), found.get("kid") or new_kid(), "d" in found
        fits = found.get("kty") == "OKP" and found.get("crv") == "Ed25519"
    else:
        x, kid, private = _x_of_pem(content), new_kid(), b"PRIVATE KEY" in content
        fits = x is not None
    if private:
        raise OperatorError(f"{file} is a private key: give the public half (openssl pkey -in FILE -pubout)")
    if not fits:
        raise OperatorError(f"{file} is no Ed25519 public key, neither PEM (SubjectPublicKeyInfo) nor JWK")
    return {"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "kid": kid, "x": x}


def _read_jwk(file: Path, content: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = strictjson.loads(content)
    except strictjson.InvalidJsonError as error:
        raise OperatorError(f"{file}: {error.args[0]}") from None
    return found


def _x_of_pem(content: bytes) -> str | None:
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, Ed25519PublicKey):
        return None
    return base64.urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode()


_HEADINGS = ("KID", "NAME", "ROLE", "SERVICES", "ALG", "STATE", "EXPIRES", "CREATED", "LAST USED")


def _table(tokens: list[dict[str, Any]]) -> str:
    now = rfc3339(time.time())
    rows = [_HEADINGS, *(_row(token, now) for token in tokens)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(token: dict[str, Any], now: str) -> tuple[str, ...]:
    state = "valid"
    if token["revoked_at"] is not None:
        state = "revoked"
    elif token["expires_at"] is not None and token["expires_at"] <= now:
        state = "expired"
    services = "all" if token["services"] is None else ",".join(token["services"])
    times = (token[field] or "-" for field in ("expires_at", "created_at", "last_used_at"))
    return (token["kid"], token["name"], token["role"], services, token["alg"], state, *times)
