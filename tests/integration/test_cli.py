"""The installed `setpointd`, as an operator uses it: making a store, tokens, and every way that goes wrong."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts import Role, Token, strictjson

SETPOINTD = Path(sys.executable).with_name("setpointd")
STORE_FILES = {"admin.jwk", "seal.jwk", "setpoint.db", "signing.jwk", "writer.lock"}
SECONDS = 30


def setpointd(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `setpointd` to its end, with no setting around but those in ``env``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SETPOINT_")}
    return subprocess.run(
        [SETPOINTD, *args], env=clean | env, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def done(*args: str | Path, **env: str) -> str:
    """Run `setpointd`, which must succeed without a word on standard error; returns what it prints."""
    result = setpointd(*args, **env)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def refused(*args: str | Path, code: int = 1, **env: str) -> str:
    """Run `setpointd`, which must fail with one line and nothing else; returns the line."""
    result = setpointd(*args, **env)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith("setpointd: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("setpointd: ").strip()


def tokens(data_dir: Path) -> list[dict[str, Any]]:
    """Return all tokens of a store, as `token list --json` has them."""
    found: list[dict[str, Any]] = json.loads(done("token", "list", "--json", "--data-dir", data_dir))["tokens"]
    return found


def put(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def rows(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask the store's file directly."""
    connection = sqlite3.connect(data_dir / "setpoint.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one store, for all tests to copy."""
    path = tmp_path_factory.mktemp("cli") / "store"
    done("init", "--data-dir", path)
    return path


@pytest.fixture
def data_dir(new_store: Path, tmp_path: Path) -> Path:
    """Give the test a store of its own."""
    return shutil.copytree(new_store, tmp_path / "store")


@pytest.fixture
def ed25519(tmp_path: Path) -> dict[str, Path]:
    """Make an Ed25519 key pair with openssl: the PEM files ``private`` and ``public``."""
    files = {"private": tmp_path / "private.pem", "public": tmp_path / "public.pem"}
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", files["private"]], check=True)
    subprocess.run(["openssl", "pkey", "-in", files["private"], "-pubout", "-out", files["public"]], check=True)
    return files


@pytest.fixture
def wide_umask() -> Iterator[None]:
    """Let new files be open to everybody, unless their maker says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_version_and_help() -> None:
    """`--version` names the release, every command has help, and `python -m setpointd` is the same."""
    assert done("--version") == f"setpointd {version('setpoint')}\n"
    for command in ([], ["init"], ["run"], ["dev"], ["token"], ["token", "create"], ["epoch", "advance"], ["verify"]):
        assert done(*command, "--help").startswith(f"Usage: {' '.join(['setpointd', *command])} ")
    module = subprocess.run(
        [sys.executable, "-m", "setpointd", "--version"], capture_output=True, text=True, check=True
    )
    assert module.stdout == done("--version")


def test_without_the_extra_it_says_what_to_install() -> None:
    """Where what it needs is not installed, it is one line that names the extra, and exit code 2."""
    for missing, command in (("click", "--help"), ("structlog", "run")):
        child = (
            f"import sys; sys.modules['{missing}'] = None; from setpointd.operator.entry import main; sys.exit(main())"
        )
        done = subprocess.run([sys.executable, "-c", child, command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"setpointd: {missing} is missing, of the extra `daemon`")


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["--version"], []])
def test_help_and_version_load_nothing_heavy(args: list[str]) -> None:
    """On a Pi, asking for help or the version must not wait for what only the commands need."""
    child = "import sys; from setpointd.operator.cli import main; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", child, *args], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {
        "aiomqtt",
        "asyncio",
        "cryptography",
        "joserfc",
        "pydantic",
        "setpoint_contracts",
        "sqlite_utils",
        "structlog",
    }
    assert "click" in loaded
    assert not loaded & heavy


@pytest.mark.usefixtures("wide_umask")
def test_init_makes_a_private_store(tmp_path: Path) -> None:
    """Keys, store and an admin token are made, in a directory and in files that only their owner can open."""
    data_dir = tmp_path / "new" / "store"
    assert "admin.jwk" in done("init", "--data-dir", data_dir)
    assert {path.name for path in data_dir.iterdir()} == STORE_FILES
    assert {path.name: oct(mode(path)) for path in data_dir.iterdir()} == dict.fromkeys(STORE_FILES, "0o600")
    assert mode(data_dir) == 0o700

    token = Token.load(data_dir / "admin.jwk")
    assert (token.name, token.role, token.alg) == ("admin", Role.ADMIN, "HS256")
    [listed] = tokens(data_dir)
    assert (listed["kid"], listed["created_by"], listed["revoked_at"]) == (token.kid, "setpointd", None)
    assert token.k
    assert token.k.encode() not in (data_dir / "setpoint.db").read_bytes()


def test_init_in_an_empty_directory_with_the_token_elsewhere(tmp_path: Path) -> None:
    """A directory that is there, as a mounted volume is, gets the store; the token goes where it is told to."""
    (tmp_path / "volume").mkdir(mode=0o755)
    done("init", "--admin-token", tmp_path / "first.jwk", SETPOINT_DATA_DIR=str(tmp_path / "volume"))
    assert {path.name for path in (tmp_path / "volume").iterdir()} == STORE_FILES - {"admin.jwk"}
    assert (mode(tmp_path / "volume"), mode(tmp_path / "first.jwk")) == (0o700, 0o600)


def test_init_overwrites_nothing(tmp_path: Path, data_dir: Path) -> None:
    """A store, other files, and a file at the token's place are left as they are, and nothing new is left behind."""
    before = {path: path.read_bytes() for path in data_dir.iterdir()}
    assert "holds a store already" in refused("init", "--data-dir", data_dir)
    assert {path: path.read_bytes() for path in data_dir.iterdir()} == before

    (tmp_path / "photos").mkdir(mode=0o755)
    (tmp_path / "photos" / "cat.jpg").touch()
    assert "is not empty" in refused("init", "--data-dir", tmp_path / "photos")
    assert (mode(tmp_path / "photos"), len(list((tmp_path / "photos").iterdir()))) == (0o755, 1)

    taken = refused("init", "--data-dir", tmp_path / "a" / "b", "--admin-token", tmp_path / "photos" / "cat.jpg")
    assert taken == f"{tmp_path}/photos/cat.jpg is there already, and is not overwritten"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("blocks", [0, 8, 60])
def test_init_on_a_full_disk(tmp_path: Path, blocks: int) -> None:
    """Where a file cannot grow, `init` says so and takes away what it has made."""
    limited: list[str | Path] = [
        "sh",
        "-c",
        f'ulimit -f {blocks}; exec "$@"',
        "sh",
        SETPOINTD,
        "init",
        "--data-dir",
        tmp_path / "store",
    ]
    result = subprocess.run(limited, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("setpointd: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_init_that_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """A signal while `init` works leaves a whole store or none."""
    data_dir = tmp_path / "store"
    process = subprocess.Popen(
        [SETPOINTD, "init", "--data-dir", data_dir], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + SECONDS
    while not (data_dir / "seal.jwk").exists() and time.monotonic() < deadline:
        pass
    process.send_signal(number)
    _, stderr = process.communicate(timeout=SECONDS)
    if process.returncode == 0:
        assert {path.name for path in data_dir.iterdir()} == STORE_FILES
    else:
        assert (process.returncode, stderr) == (130, b"setpointd: interrupted\n")
        assert not data_dir.exists()


def test_token_create(tmp_path: Path, data_dir: Path) -> None:
    """A token has the name, role, services and life that were asked for; its file is private and never overwritten."""
    out = tmp_path / "stt.jwk"
    asked = ("stt", "--role", "operator", "--services", "stt", "--services", "tts-*", "--ttl", "90d", "--out", out)
    kid = done("token", "create", *asked, "--data-dir", data_dir).strip()

    token = Token.load(out)
    assert (token.kid, token.name, token.role, token.services) == (kid, "stt", Role.OPERATOR, ("stt", "tts-*"))
    assert (token.alg, mode(out)) == ("HS256", 0o600)
    listed = tokens(data_dir)[1]
    assert (listed["kid"], listed["services"], listed["expires_at"]) == (kid, ["stt", "tts-*"], token.expires_at)
    assert str(listed["created_at"]) < str(token.expires_at)
    assert "is there already" in refused("token", "create", *asked, "--data-dir", data_dir)
    assert rows(data_dir, "SELECT count(*) FROM api_tokens") == [(2,)]


def test_token_create_with_a_key_pair(tmp_path: Path, data_dir: Path) -> None:
    """Of an Ed25519 token the private half goes to the file only."""
    out = tmp_path / "pi.jwk"
    done("token", "create", "pi", "--role", "viewer", "--alg", "Ed25519", "--out", out, "--data-dir", data_dir)
    token = Token.load(out)
    assert token.d
    [[stored]] = rows(data_dir, f"SELECT key FROM api_tokens WHERE kid = '{token.kid}'")  # noqa: S608 - our own kid
    assert json.loads(stored) == token.public().jwk()


def test_token_create_for_a_public_key(tmp_path: Path, data_dir: Path, ed25519: dict[str, Path]) -> None:
    """Whoever keeps a private key to themselves hands in the public half, as PEM or JWK; a file is then optional."""
    out = tmp_path / "esp32.jwk"
    create = ("token", "create", "esp32", "--role", "viewer", "--data-dir", data_dir)
    kid = done(*create, "--public-key", ed25519["public"], "--out", out).strip()
    token = Token.load(out)
    assert (token.kid, token.alg, token.d) == (kid, "Ed25519", None)

    bare, named = (Token.new("Ed25519", kid, "any", Role.VIEWER).public().jwk() for kid in ("any", "esp32-7"))
    (tmp_path / "bare.jwk").write_text(json.dumps({member: bare[member] for member in ("kty", "crv", "x")}))
    again = done(*create, "--public-key", tmp_path / "bare.jwk").strip()
    (tmp_path / "named.jwk").write_text(json.dumps({**named, "use": "sig"}))
    assert done(*create, "--public-key", tmp_path / "named.jwk").strip() == "esp32-7"
    assert [token["kid"] for token in tokens(data_dir)[1:]] == [kid, again, "esp32-7"]


def test_token_create_refuses_what_is_no_public_key(tmp_path: Path, data_dir: Path, ed25519: dict[str, Path]) -> None:
    """A private key, another kind of key and no key at all are refused; a private one with what to do instead."""
    create = ("token", "create", "esp32", "--role", "viewer", "--data-dir", data_dir, "--public-key")
    assert "openssl pkey" in refused(*create, ed25519["private"])
    (tmp_path / "secret.jwk").write_text('{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"AAAA"}')
    assert "is a private key" in refused(*create, tmp_path / "secret.jwk")
    assert "is no Ed25519 public key" in refused(*create, data_dir / "admin.jwk")
    (tmp_path / "text").write_text("hello")
    assert "is no Ed25519 public key" in refused(*create, tmp_path / "text")
    (tmp_path / "half.jwk").write_text('{"kty":')
    assert "not JSON" in refused(*create, tmp_path / "half.jwk")
    (tmp_path / "short.jwk").write_text('{"kty":"OKP","crv":"Ed25519","x":"AAAA"}')
    assert refused(*create, tmp_path / "short.jwk").startswith("x: ")
    assert "No such file" in refused(*create, tmp_path / "missing")
    assert "--public-key is for Ed25519" in refused(*create, ed25519["public"], "--alg", "HS256", code=2)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("Bob", "--role", "viewer"), "name: "),
        (("bob", "--role", "viewer", "--services", "A B"), "services.0: "),
        (("bob", "--role", "king"), "'viewer', 'operator', 'admin'"),
        (("bob",), "Missing option '--role'"),
        (("--role", "viewer"), "Missing argument 'NAME'"),
        (("bob", "--role", "viewer", "--ttl", "1y"), "--ttl is a number and s, m, h, d or w"),
        (("bob", "--role", "viewer", "--ttl", "0d"), "--ttl is a number and s, m, h, d or w"),
        (("bob", "--role", "viewer", "--ttl", "9999999999w"), "at most 100 years"),
        (("bob", "--role", "viewer", "--alg", "none"), "'HS256', 'Ed25519'"),
    ],
)
def test_token_create_refuses_what_does_not_fit(
    tmp_path: Path, data_dir: Path, args: tuple[str, ...], says: str
) -> None:
    """What is asked for is checked before anything is made."""
    result = setpointd("token", "create", *args, "--out", tmp_path / "t.jwk", "--data-dir", data_dir)
    assert result.returncode in {1, 2}
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "t.jwk").exists()
    assert rows(data_dir, "SELECT count(*) FROM api_tokens") == [(1,)]


def test_token_create_needs_a_file_for_a_new_key(data_dir: Path) -> None:
    """A key that is written nowhere would be of no use."""
    assert "--out FILE is needed" in refused("token", "create", "x", "--role", "viewer", "--data-dir", data_dir, code=2)


def test_token_create_leaves_no_file_when_the_store_fails(tmp_path: Path, data_dir: Path) -> None:
    """A token that is not in the store has no file either."""
    (data_dir / "setpoint.db").write_bytes(b"garbage" * 1000)
    create = ("token", "create", "x", "--role", "viewer", "--out", tmp_path / "x.jwk", "--data-dir", data_dir)
    assert "cannot be opened: file is not a database" in refused(*create)
    assert not (tmp_path / "x.jwk").exists()


def test_token_import(tmp_path: Path, data_dir: Path) -> None:
    """A token that was made elsewhere is taken once, with its services and expiry, and without a private half."""
    times = {"services": ["stt*"], "expires_at": "2999-01-01T00:00:00.000Z"}
    made = [
        Token.new("HS256", "esp32-1", "esp32", Role.VIEWER, **times),
        Token.new("Ed25519", "pi", "pi", Role.OPERATOR),
    ]
    for token in made:
        file = put(tmp_path / f"{token.kid}.jwk", token.dump())
        assert done("token", "import", file, "--data-dir", data_dir) == f"{token.kid}\n"
    first, second = tokens(data_dir)[1:]
    assert (first["kid"], first["services"], first["expires_at"]) == ("esp32-1", ["stt*"], "2999-01-01T00:00:00.000Z")
    assert (second["alg"], second["services"], second["expires_at"]) == ("Ed25519", None, None)
    [[stored]] = rows(data_dir, "SELECT key FROM api_tokens WHERE kid = 'pi'")
    assert json.loads(stored) == made[1].public().jwk()

    twice = refused("token", "import", tmp_path / "pi.jwk", "--data-dir", data_dir)
    assert twice == "there is a token with the kid pi already"


def test_token_import_refuses_what_is_no_token(tmp_path: Path, data_dir: Path) -> None:
    """A file that is no token is refused with what is wrong, and nothing of its key."""
    token = json.loads((data_dir / "admin.jwk").read_bytes()) | {"kid": "other"}
    file = put(tmp_path / "token.jwk", b"")
    for changed, says in (
        ({"kid": None}, "kid is missing"),
        ({"name": None}, "name is missing"),
        ({"role": "king"}, "role: "),
        ({"k": "c2hvcnQ"}, "k: "),
        ({"services": []}, "services: "),
        ({"use": "sig"}, "use is a member that no token has"),
        ({"expires_at": "soon"}, "expires_at: "),
        ({"revoked_at": "2020-01-01T00:00:00.000Z"}, "a token that was revoked is not taken back"),
    ):
        file.write_text(strictjson.dumps({k: v for k, v in {**token, **changed}.items() if v is not None}))
        line = refused("token", "import", file, "--data-dir", data_dir)
        assert says in line
        assert token["k"] not in line
    file.write_text("no JSON")
    assert "not JSON" in refused("token", "import", file, "--data-dir", data_dir)
    assert "No such file" in refused("token", "import", tmp_path / "missing", "--data-dir", data_dir)
    (tmp_path / "directory").mkdir(mode=0o755)
    assert "Is a directory" in refused("token", "import", tmp_path / "directory", "--data-dir", data_dir)
    assert rows(data_dir, "SELECT count(*) FROM api_tokens") == [(1,)]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_token_import_refuses_a_secret_that_others_know(tmp_path: Path, data_dir: Path, bits: int) -> None:
    """A file with a secret in it is its owner's alone; a public key may be anybody's."""
    secret = Token.new("HS256", "secret", "x", Role.VIEWER)
    pair = Token.new("Ed25519", "pair", "x", Role.VIEWER)
    for token in (secret, pair):
        file = put(tmp_path / f"{token.kid}.jwk", token.dump())
        file.chmod(bits)
        line = refused("token", "import", file, "--data-dir", data_dir)
        assert line == f"{file} is open to others, so its key is no secret: make a new token, or `chmod 600` it"
    public = put(tmp_path / "public.jwk", pair.public().dump())
    public.chmod(bits)
    assert done("token", "import", public, "--data-dir", data_dir) == "pair\n"


def test_a_key_has_one_kid(tmp_path: Path, data_dir: Path, ed25519: dict[str, Path]) -> None:
    """A key that the store has, be its token revoked or not, is not taken under another kid, whichever way it comes."""
    admin = Token.load(data_dir / "admin.jwk")
    again = put(tmp_path / "again.jwk", admin.model_copy(update={"kid": "again", "name": "other"}).dump())
    says = "token {} has this key already, and a key has one kid: make a new one"
    assert refused("token", "import", again, "--data-dir", data_dir) == f"k: {says.format(admin.kid)}"
    done("token", "revoke", admin.kid, "--data-dir", data_dir)
    assert refused("token", "import", again, "--data-dir", data_dir) == f"k: {says.format(admin.kid)}"

    create = ("token", "create", "esp32", "--role", "viewer", "--public-key", ed25519["public"], "--data-dir", data_dir)
    out = tmp_path / "esp32.jwk"
    kid = done(*create, "--out", out).strip()
    assert refused(*create, "--out", tmp_path / "second.jwk") == f"x: {says.format(kid)}"
    assert not (tmp_path / "second.jwk").exists()
    other = put(tmp_path / "other.jwk", Token.load(out).model_copy(update={"kid": "other"}).dump())
    assert refused("token", "import", other, "--data-dir", data_dir) == f"x: {says.format(kid)}"
    assert rows(data_dir, "SELECT count(*) FROM api_tokens") == [(2,)]


def test_tokens_need_the_right_key_and_a_store(tmp_path: Path, data_dir: Path) -> None:
    """Nothing is sealed with a key that does not open what is there, and an empty file is no store without tokens."""
    other = tmp_path / "other"
    done("init", "--data-dir", other)
    shutil.copy(other / "seal.jwk", data_dir / "seal.jwk")
    create = ("token", "create", "x", "--role", "viewer", "--out", tmp_path / "x.jwk", "--data-dir")
    assert "it belongs to another store" in refused(*create, data_dir)
    (other / "setpoint.db").write_bytes(b"")
    assert "holds no store" in refused(*create, other)
    assert "holds no store" in refused("token", "list", "--data-dir", other)
    assert "holds no store" in refused("run", "--data-dir", other, "--http", "127.0.0.1:0")
    assert not (tmp_path / "x.jwk").exists()


def test_token_list_and_revoke(tmp_path: Path, data_dir: Path) -> None:
    """The table shows who may do what and whether it still holds; no key is in it."""
    expired = Token.new("HS256", "old", "old", Role.VIEWER, expires_at="2020-01-01T00:00:00.000Z")
    done("token", "import", put(tmp_path / "old.jwk", expired.dump()), "--data-dir", data_dir)
    admin = Token.load(data_dir / "admin.jwk")

    assert done("token", "revoke", admin.kid, "--data-dir", data_dir) == f"{admin.kid} is revoked\n"
    assert done("token", "revoke", admin.kid, "--data-dir", data_dir) == f"{admin.kid} was revoked before\n"
    table = done("token", "list", "--data-dir", data_dir)
    heading, *lines = [line.split() for line in table.splitlines()]
    assert heading[:6] == ["KID", "NAME", "ROLE", "SERVICES", "ALG", "STATE"]
    assert [line[:6] for line in lines] == [
        [admin.kid, "admin", "admin", "all", "HS256", "revoked"],
        ["old", "old", "viewer", "all", "HS256", "expired"],
    ]
    assert str(admin.k) not in table
    assert "there is no token with the kid 'nobody'" in refused("token", "revoke", "nobody", "--data-dir", data_dir)


def test_tokens_are_audited(tmp_path: Path, data_dir: Path) -> None:
    """Making and revoking leave audit events, which wait in the outbox for the daemon to publish."""
    out = tmp_path / "t.jwk"
    kid = done("token", "create", "t", "--role", "viewer", "--out", out, "--data-dir", data_dir).strip()
    done("token", "revoke", kid, "--data-dir", data_dir)
    done("token", "revoke", kid, "--data-dir", data_dir)
    events = rows(data_dir, "SELECT action, user, json_extract(details_json, '$.kid') FROM audit_log ORDER BY id")
    assert events[1:] == [("create_token", "setpointd", kid), ("revoke_token", "setpointd", kid)]
    assert rows(data_dir, "SELECT count(*) FROM outbox_events") == [(3,)]


@pytest.mark.parametrize(
    "command",
    [
        ("run",),
        ("token", "list"),
        ("token", "revoke", "x"),
        ("token", "import", "TOKEN"),
        ("epoch", "advance"),
        ("verify",),
    ],
)
def test_without_a_store(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Every command that needs a store says how to make one, and makes none itself."""
    token = put(tmp_path / "x.jwk", Token.new("HS256", "x", "x", Role.VIEWER).dump())
    words = [token if word == "TOKEN" else word for word in command]
    assert f"`setpointd init --data-dir {tmp_path}/none`" in refused(*words, "--data-dir", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def change(data_dir: Path, script: str) -> dict[str, bytes]:
    """Change the store's file directly; returns all files of the store as they are then."""
    connection = sqlite3.connect(data_dir / "setpoint.db")
    connection.executescript(script)
    connection.close()
    return {path.name: path.read_bytes() for path in data_dir.iterdir()}


def older_store(data_dir: Path) -> dict[str, bytes]:
    """Bring a store to format 1, as the setpointd before wrote it."""
    return change(
        data_dir,
        """
        DROP TABLE outbox_documents;
        DROP TABLE outbox_events;
        DROP INDEX config_state_tombstones;
        ALTER TABLE config_state DROP COLUMN cleared;
        CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ref TEXT NOT NULL);
        DROP TABLE profiles;
        DROP TABLE profile_services;
        DROP TABLE config_schemas;
        ALTER TABLE audit_log DROP COLUMN hash;
        ALTER TABLE audit_log DROP COLUMN prev_hash;
        DROP TRIGGER token_added;
        DROP TRIGGER token_changed;
        DROP TRIGGER token_removed;
        DROP TABLE token_changes;
        DROP TABLE config_pruned;
        DROP TABLE config_prunes;
        DROP INDEX config_history_user;
        DROP TABLE config_history_turns;
        DROP TABLE config_secrets;
        DELETE FROM _sqlite_migrations WHERE name <> 'first_tables';
        """,
    )


def newest_format(data_dir: Path) -> int:
    """Read the format of a store that this setpointd has just made."""
    [(steps,)] = rows(data_dir, "SELECT count(*) FROM _sqlite_migrations")
    return int(steps)


def test_newer_store(tmp_path: Path, data_dir: Path) -> None:
    """A store that a newer setpointd wrote is refused in a line that names both formats, and nothing is touched."""
    known = newest_format(data_dir)
    before = change(data_dir, "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('setpoint', 'of_tomorrow')")
    token = put(tmp_path / "x.jwk", Token.new("HS256", "x", "x", Role.VIEWER).dump())
    for command in (
        ("run", "--http", "127.0.0.1:0"),
        ("token", "list"),
        ("token", "create", "x", "--role", "viewer", "--out", tmp_path / "new.jwk"),
        ("token", "import", token),
        ("token", "revoke", "x"),
        ("epoch", "advance"),
        ("verify",),
    ):
        assert refused(*command, "--data-dir", data_dir) == (
            f"the store in {data_dir} is of format {known + 1} (of_tomorrow), and this setpointd knows up to format"
            f" {known}: use the newer setpointd that wrote it"
        )
    after = {path.name: path.read_bytes() for path in data_dir.iterdir() if path.name != "daemon.lock"}
    assert after == before
    assert not (tmp_path / "new.jwk").exists()


def test_older_store(data_dir: Path) -> None:
    """Reading an older store leaves it as it is; the first command that writes brings it up to date."""
    known = newest_format(data_dir)
    before = older_store(data_dir)
    [admin] = tokens(data_dir)
    assert {path.name: path.read_bytes() for path in data_dir.iterdir()} == before
    done("token", "revoke", admin["kid"], "--data-dir", data_dir)
    assert rows(data_dir, "SELECT count(*) FROM _sqlite_migrations") == [(known,)]


def test_half_migrated_store(tmp_path: Path, data_dir: Path) -> None:
    """A store that is partly of the next format, so that it cannot be completed, is refused in one line."""
    known = newest_format(data_dir)
    older_store(data_dir)
    before = change(data_dir, "CREATE TABLE outbox_before (id INTEGER)")
    for command in (
        ("run", "--http", "127.0.0.1:0"),
        ("token", "create", "x", "--role", "viewer", "--out", tmp_path / "new.jwk"),
        ("epoch", "advance"),
    ):
        line = refused(*command, "--data-dir", data_dir)
        assert line.startswith(f"the store in {data_dir} is of format 1, and cannot be brought to format {known}")
    after = {path.name: path.read_bytes() for path in data_dir.iterdir() if path.name != "daemon.lock"}
    assert after == before


@pytest.mark.parametrize("args", [("frobnicate",), ("--frobnicate",), ("run", "--frobnicate"), ("token", "list")])
def test_command_line_that_does_not_fit(args: tuple[str, ...]) -> None:
    """An unknown command or option, or a missing one, is one line that says where help is."""
    assert "--help`)" in refused(*args, code=2)


def test_no_command() -> None:
    """Without a command, the help is shown, and the exit code says that nothing was done."""
    for args in ([], ["token"], ["epoch"]):
        result = setpointd(*args)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("Usage: setpointd")


def test_run_refuses_settings_that_do_not_fit(tmp_path: Path, data_dir: Path) -> None:
    """Settings are checked before the daemon starts, whatever their source; a password in them is not shown."""
    assert "--data-dir, SETPOINT_DATA_DIR" in refused("run")
    url = "http://user:s3cret@broker"
    run = ("run", "--data-dir", data_dir)
    for line in (refused(*run, "--broker", url), refused(*run, SETPOINT_BROKER=url)):
        assert line.startswith("broker: write mqtt://host")
        assert "s3cret" not in line
    (tmp_path / "setpoint.toml").write_text("surprise = 1\n")
    assert "no setting 'surprise'" in refused(*run, "--config", tmp_path / "setpoint.toml")
    assert "is not there" in refused(*run, "--config", tmp_path / "none.toml")


def test_broken_files(data_dir: Path) -> None:
    """A key or a database that is damaged is named in one line."""
    pair = json.loads((data_dir / "signing.jwk").read_bytes())
    for other in ({**pair, "x": "A" * 43}, {name: pair[name] for name in pair if name != "x"}):
        (data_dir / "signing.jwk").write_text(json.dumps(other))
        assert "signing.jwk is not the key that `setpointd init` made" in refused("run", "--data-dir", data_dir)
    (data_dir / "signing.jwk").write_text(json.dumps(pair))
    create = ("token", "create", "x", "--role", "viewer", "--out", data_dir / "x.jwk", "--data-dir", data_dir)
    for content in (b"", b"{}", b"[1]", b'{"kty":"oct","k":"AAAA"}', b'{"kty":"oct","k":7}'):
        (data_dir / "seal.jwk").write_bytes(content)
        assert refused(*create) == f"{data_dir}/seal.jwk is not the key that `setpointd init` made"
    (data_dir / "setpoint.db").write_bytes(b"garbage" * 1000)
    assert "file is not a database" in refused("token", "list", "--data-dir", data_dir)


def test_output_that_cannot_be_written(data_dir: Path) -> None:
    """A full disk or a reader that has gone is no reason for a traceback."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [SETPOINTD, "token", "list", "--data-dir", data_dir],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "setpointd: No space left on device\n")

    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [SETPOINTD, "token", "list", "--data-dir", data_dir],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")
