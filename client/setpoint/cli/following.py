"""``setpoint watch`` and ``setpoint wait``: what becomes of configs, as it happens."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from typing import Any

import click

from setpoint.cli import diffs
from setpoint.cli.configs import heading
from setpoint.cli.connection import Session, all_or_none, run
from setpoint.cli.exits import Exit, Failed, complain
from setpoint.cli.options import Command, Number, Options, Service, pass_options
from setpoint.cli.output import Table, form, show, show_json_line, show_table, show_yaml
from setpoint.cli.times import local

Json = dict[str, Any]
_TERMINATED = 128 + signal.SIGTERM
_MOST_IN_ENVIRONMENT = 100_000  # one variable holds 128 KiB at most (execve(2), MAX_ARG_STRLEN)
_DEFAULT_WAIT_S = 30.0
_POLITE_S = 5.0
_GLOB = frozenset("*?[")


@click.command("watch", cls=Command)
@click.argument("pattern", type=Service(), metavar="SERVICE|GLOB")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--changes-only", is_flag=True, help="Pass over what there is already; begin with the next change.")
@click.option("--count", type=Number(1), metavar="N", help="End after so many.")
@pass_options
def watch(options: Options, pattern: str, command: tuple[str, ...], count: int | None, *, changes_only: bool) -> None:
    """Follow SERVICE, or all that GLOB matches ('stt*'), until Ctrl-C: the current config first, then each newer one.

    With COMMAND, it is run at each: the document is its standard input, and in the environment are SETPOINT_SERVICE,
    SETPOINT_VERSION, SETPOINT_REVISION, SETPOINT_DELETED (1 or 0) and SETPOINT_DOCUMENT (if it has at most 100 kB). One
    runs at a time; what is overtaken meanwhile is left out, the newest never is.

    It needs no token, but for --changes-only. --timeout does not end it.
    """
    if command and shutil.which(command[0]) is None:
        raise Failed(f"there is no command {command[0]} that can be run")

    async def work(session: Session) -> None:
        task = asyncio.current_task()
        terminated = False

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            if task is not None:
                task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            async with _told_if_missing(session, pattern):
                await _follow(session, pattern, command, count, changes_only=changes_only)
        except asyncio.CancelledError:
            if terminated:
                raise click.exceptions.Exit(_TERMINATED) from None
            raise

    run(options, work, patient=True)


@contextlib.asynccontextmanager
async def _told_if_missing(session: Session, pattern: str) -> AsyncGenerator[None]:
    """Meanwhile tell who waits for a service that there is none, as far as the daemon can be asked."""

    async def tell() -> None:
        from setpoint.errors import NotFound, SetpointError

        try:
            await session.call("get", {"service": pattern})
        except NotFound as error:
            if not error.details.get("current"):
                complain(f"there is no service {pattern} yet; waiting")
        except SetpointError:
            pass  # watching does not need the daemon

    if _GLOB & set(pattern) or session.client.principal is None:
        yield
        return
    telling = asyncio.create_task(tell(), name="tell if missing")
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _follow(
    session: Session, pattern: str, command: tuple[str, ...], count: int | None, *, changes_only: bool
) -> None:
    before: dict[str, Json] = {}
    left = count
    async with contextlib.aclosing(_documents(session, pattern, changes_only=changes_only)) as documents:
        async for document in documents:
            if command:
                await _run(command, document)
            else:
                _tell(session.options, document, before.get(document["service"]))
                before[document["service"]] = document
            if left is not None and (left := left - 1) == 0:
                return


async def _documents(session: Session, pattern: str, *, changes_only: bool) -> AsyncGenerator[Json]:
    """Give documents as the wire has them; with ``changes_only`` those that are made after this begins."""
    passed = _order(await session.call("status")) if changes_only else (0, 0)
    watching = session.client.watch(pattern)
    async for found in watching:
        document: Json = found.model_dump(mode="json", exclude={"config" if found.deleted else "deleted"})
        if not changes_only or _order(document) > passed:
            yield document


def _order(found: Json) -> tuple[int, int]:
    return found["epoch"], found["revision"]


def _tell(options: Options, document: Json, before: Json | None) -> None:
    """Print a document in the form that was asked for; for people with what has changed since the one before."""
    chosen = form(options)
    if chosen == "json":
        show_json_line(document)
    elif chosen == "yaml":
        click.echo("---")
        show_yaml(document)
    elif chosen == "raw":
        show_json_line(document.get("config"))
    else:
        changed = _differences(before, document) if before is not None else []
        keys = len(document.get("config") or {})
        more = "" if document.get("deleted") or before is not None else f" · {keys} key{'' if keys == 1 else 's'}"
        diffs.tell(heading(document) + more, changed, err=False)


def _differences(before: Json, after: Json) -> list[Json]:
    from setpoint_contracts.difference import differences

    return differences(before.get("config") or {}, after.get("config") or {})


async def _run(command: tuple[str, ...], document: Json) -> None:
    """Run the command for a document, to its end; ended itself, it ends the command."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    told = {
        "SETPOINT_SERVICE": document["service"],
        "SETPOINT_VERSION": str(document["version"]),
        "SETPOINT_REVISION": str(document["revision"]),
        "SETPOINT_DELETED": "1" if document.get("deleted") else "0",
    }
    if len(text.encode()) <= _MOST_IN_ENVIRONMENT:
        told["SETPOINT_DOCUMENT"] = text
    outside = {name: value for name, value in os.environ.items() if name != "SETPOINT_DOCUMENT"}
    which = f"{document['service']} version {document['version']}"
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, env=outside | told)
    except OSError as error:
        complain(f"{command[0]} cannot be run: {error.strerror} ({which}); watching goes on")
        return
    try:
        await process.communicate(text.encode() + b"\n")
    except asyncio.CancelledError:
        await _end(process)
        raise
    if process.returncode:
        complain(f"{command[0]} ended with {process.returncode} ({which}); watching goes on")


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_POLITE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


class Share(click.ParamType[float]):
    """A part of all: ``100%``, ``50%`` or ``0.5``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a share."""
        text = str(value)
        try:
            found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            found = -1.0
        if not 0 <= found <= 1:
            self.fail(f"{value!r} is no share; write 100%, 50% or 0.5", param, ctx)
        return found


@click.command("wait", cls=Command, default_timeout_s=_DEFAULT_WAIT_S)
@click.argument("service", type=Service())
@click.option(
    "--applied", type=Share(), default="100%", metavar="SHARE", help="Of the known instances, e.g. 50%. [100%]"
)
@click.option("--version", type=Number(1), metavar="N", help="At least this version. [the newest]")
@pass_options
def wait(options: Options, service: str, applied: float, version: int | None) -> None:
    """Wait until instances of SERVICE report that they run a version.

    Instances report by themselves where they use Setpoint's library (`bind`). Exits 7 when not enough did in time.
    """
    timeout_s = _DEFAULT_WAIT_S if options.timeout is None else options.timeout

    async def work(session: Session) -> list[Json]:
        from setpoint.errors import NotApplied

        wanted = await _wanted(session, service, version, timeout_s)
        try:
            found = await session.client.wait_applied(service, wanted, share=applied, timeout=timeout_s)
        except NotApplied as error:
            if not error.instances:
                told = f"nobody reports for {service} after {timeout_s:g} s"
                raise Failed(told, "is it running, and does it use `bind`?", Exit.UNREACHABLE) from None
            show_table(_table([one.model_dump(mode="json") for one in error.instances]), err=True)
            raise
        return [one.model_dump(mode="json", exclude_none=True) for one in found]

    instances = run(options, work)
    show(options, {"instances": instances}, _table(instances))


async def _wanted(session: Session, service: str, version: int | None, timeout_s: float) -> int:
    """Return the version to wait for; one that there is not yet is waited for, and that is said."""
    if version is None:
        return int((await session.call("get", {"service": service}, timeout=timeout_s))["version"])
    newest = await all_or_none(session.call("get", {"service": service}), "not_found", "unreachable")
    if newest is not None and newest["version"] < version:
        complain(f"{service} is at version {newest['version']}; waiting for version {version} all the same")
    return version


def _table(instances: list[Json]) -> Table:
    rows = [
        (one["instance"], one["version"], one["status"], one["lag"], local(one["at"]), one.get("error") or "")
        for one in instances
    ]
    columns = ("INSTANCE", "VERSION", "STATUS", "BEHIND", "AT", "ERROR")
    return Table(columns, rows, styles={0: "bold"}, words={"rejected": "red"}, whole=frozenset({4}))
