"""Whether a history is one that a correct daemon can have brought about. Pure.

Each service is a versioned register with compare-and-set (register.py), and the whole is linearisable when every
operation can be given one moment between its invocation and its answer, so that one after the other they explain all
that was answered. In general finding that order is a search that takes exponential time, which is what checkers such
as Porcupine and Knossos do; PyPI has no maintained one. Here nothing is to be searched for: every answer names its
place in the order, (epoch, revision). So it is enough to go through that order once, and what is wrong can be named.

Rules, by the names that violations carry:

- ``versions``: those of a service are 1, 2, 3, … in the order of (epoch, revision), neither of which ever goes down;
  no revision stands for two of them.
- ``outcome``: an answer is what the register answers in the state at the answer's place. So a successful
  compare-and-set named the version right before its own, a conflict carries the document that was current, a read the
  one that was current, and ``changed: false`` is true.
- ``place``: the same, but the answer is right for an earlier state that was current after the invocation: it is
  linearisable, and only names a place that it was not judged at.
- ``real time``: what was invoked after something had been answered (or announced) stands no lower in the order, and
  what it made stands higher. A reply from the future, with a revision of a command that was sent only later, breaks
  this rule, and so does a stale read. Order counts from answer to invocation only: a read does not wait for a write
  that the same caller sent just before it and that is not answered yet.
- ``repeat``: the same bytes sent again got the same reply, byte for byte, once there was a final one.
- ``account``: every version was made by exactly one invocation, of the principal that it names: by the one that was
  told so, else by one that was never answered and that makes just this of the version before.
- ``update``: what is announced are versions that somebody had asked for by then, each as the store has it, in their
  order on one connection. Retained ones may be old: a broker that was killed has what it saved last.
- ``retained``: in the end the newest version of each service is retained; of a deleted one its tombstone, or nothing.

A mutation that was answered with a retryable error only, or never, may or may not have run, once, at any time after its
invocation. A read that was sent twice is answered twice, each time for the moment.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.crash.history import Document, History, Operation, Place, Received
from tests.crash.register import State, run

_BEGINNING = Place(-1, -1)


class Violation(NamedTuple):
    """A rule that was broken, and by what."""

    rule: str
    what: str


class Floor(NamedTuple):
    """How far the order was known to have got at some time, and by what."""

    place: Place
    known_by: str


def check(history: History) -> list[Violation]:
    """List what is wrong with a history; nothing, if it is linearisable and keeps the other rules above."""
    order = Order(history.versions)
    floors = _floors(history)
    makers, told_twice = _makers(history, order)
    makers |= _match(history, order, floors, makers)
    return [
        *order.violations(),
        *told_twice,
        *_unmade(order, makers),
        *(violation for operation in history.operations for violation in _judge(operation, order, floors)),
        *_updates(history, order, makers),
        *_retained(history, order),
    ]


class Order:
    """All versions of all services, as they were read in the end."""

    def __init__(self, versions: dict[str, list[Document]]) -> None:
        self.versions = versions
        self._places = {service: [Place.of(document) for document in made] for service, made in versions.items()}
        self.last_revision = max((place.revision for places in self._places.values() for place in places), default=0)

    def document(self, service: str, version: int) -> Document | None:
        """One version; None when there is none."""
        made = self.versions.get(service, [])
        return made[version - 1] if 1 <= version <= len(made) else None

    def state(self, service: str, version: int) -> State:
        """The register at that version; 0: before the first."""
        document = self.document(service, version)
        return State(version, document and document.get("config"))

    def version_at(self, service: str, place: Place) -> int:
        """The version that was the newest at a place."""
        return bisect_right(self._places.get(service, []), place)

    def violations(self) -> Iterator[Violation]:
        """Look at the versions alone."""
        seen: dict[int, str] = {}
        for service, made in self.versions.items():
            before = _BEGINNING
            for number, document in enumerate(made, 1):
                name, place = f"version {number} of {service}", Place.of(document)
                if (document["service"], document["version"]) != (service, number):
                    yield Violation("versions", f"{name} reads {document['service']} {document['version']}")
                if place.epoch < before.epoch or place.revision <= before.revision:
                    yield Violation("versions", f"{name} was made at {place}, after one at {before}")
                if place.revision in seen:
                    yield Violation("versions", f"{name} shares revision {place.revision} with {seen[place.revision]}")
                seen[place.revision] = name
                before = place


def _floors(history: History) -> dict[str, Floor]:
    """Tell for every operation how far the order was known to have got when it was invoked."""
    moments: list[tuple[float, int, str, Place]] = []  # at one moment invocations come first: nothing is before them
    for operation in history.operations:
        moments.append((operation.invoked, 0, operation.id, _BEGINNING))
        moments += [(answer.at, 1, str(operation), Place.of(answer.reply)) for answer in operation.answers()]
    moments += [(update.at, 1, "an update", Place.of(update.document)) for update in history.updates]
    floor, floors = Floor(_BEGINNING, "nothing"), {}
    for _, kind, name, place in sorted(moments):
        if kind == 0:
            floors[name] = floor
        elif place > floor.place:
            floor = Floor(place, name)
    return floors


def _judge(operation: Operation, order: Order, floors: dict[str, Floor]) -> Iterator[Violation]:
    """Compare every answer to an operation with what the register answers, and its place with the floor."""
    floor = floors[operation.id]
    for answer in operation.answers():
        place = Place.of(answer.reply)
        made = _made(operation, answer)
        if place < floor.place or (made is not None and place == floor.place):
            what = f"{operation} was answered at {place}, but {floor.known_by} had {floor.place} before it was invoked"
            yield Violation("real time", what)
        if place.revision > order.last_revision:
            yield Violation("real time", f"{operation} was answered at {place}, which never came")
        newest = order.version_at(operation.service, place)
        if wrong := _wrong(operation, answer, order, newest):
            earlier = range(order.version_at(operation.service, floor.place), newest)
            late = any(_wrong(operation, answer, order, version) is None for version in earlier)
            yield Violation("place" if late else "outcome", f"{operation} at {place}: {wrong}")
    if operation.mutation:
        finals = {received.payload for received in operation.received if received.final}
        if len(finals) > 1:
            yield Violation(
                "repeat", f"{operation} was sent {operation.sent} times and got {len(finals)} final replies"
            )


def _wrong(operation: Operation, answer: Received, order: Order, version: int) -> str | None:
    """Say what about an answer is not what the register answers when that version is the newest."""
    service = operation.service
    if not operation.mutation and "version" in operation.params:
        return _wrong_old(operation, answer, order, version)
    made = _made(operation, answer)
    before = version if made is None else version - 1
    outcome = run(operation.command, operation.params, order.state(service, before))
    if (answer.code, made is not None) != (outcome.code, outcome.changed):
        said = f"{answer.code}, {'a' if made else 'no'} new version"
        return f"answered {said}; at version {before} it is {outcome.code}, changed: {outcome.changed}"
    if outcome.after != order.state(service, version):
        return f"does not make version {version} of version {before}"
    if made is not None and Place.of(made) != Place.of(answer.reply):
        return f"made its version at {Place.of(made)}"
    return _wrong_document(answer, order.document(service, version))


def _wrong_old(operation: Operation, answer: Received, order: Order, newest: int) -> str | None:
    """Do the same for a read of one version by its number."""
    version = operation.params["version"]
    if (answer.code == "ok") != (version <= newest):
        return f"answered {answer.code} when version {newest} was the newest"
    return _wrong_document(answer, order.document(operation.service, version) if answer.code == "ok" else None)


def _wrong_document(answer: Received, right: Document | None) -> str | None:
    """Compare the document that an answer carries; for a service that never was, that is version 0 or nothing."""
    carried = _carried(answer)
    if answer.code == "version_conflict" and carried is None:
        return "no current document"
    if carried is None or (right is None and carried["version"] == 0):
        return None
    return None if carried == right else f"carries another document than the store has: version {carried['version']}"


def _carried(answer: Received) -> Document | None:
    if answer.code != "ok":
        current: Document | None = answer.reply["error"].get("details", {}).get("current")
        return current
    return {name: value for name, value in answer.reply["result"].items() if name not in {"changed", "diff"}}


def _made(operation: Operation, answer: Received) -> Document | None:
    """The version that an operation was told it made."""
    if not operation.mutation or answer.code != "ok":
        return None
    result: dict[str, Any] = answer.reply["result"]
    return result if result.get("changed", True) else None


Makers = dict[tuple[str, int], Operation]


def _makers(history: History, order: Order) -> tuple[Makers, list[Violation]]:
    """Give each version to the operation that was told it made it."""
    makers: Makers = {}
    violations = []
    for operation in history.operations:
        for made in filter(None, (_made(operation, answer) for answer in operation.answers())):
            name = (operation.service, made["version"])
            document = order.document(*name)
            if name in makers:
                violations.append(Violation("account", f"{operation} and {makers[name]} both made version {name[1]}"))
            elif document is None:
                violations.append(Violation("account", f"{operation} made version {name[1]}, which is not there"))
            elif document["updated_by"] != operation.principal:
                violations.append(Violation("account", f"{operation} made version {name[1]} in another's name"))
            makers.setdefault(name, operation)
    return makers, violations


def _match(history: History, order: Order, floors: dict[str, Floor], told: Makers) -> Makers:
    """Give the other versions to operations that were never answered: each to one that can have made it."""
    silent = [operation for operation in history.operations if operation.mutation and not operation.answers()]
    makers: dict[str, tuple[str, int]] = {}

    def place(name: tuple[str, int], tried: set[str]) -> bool:
        # An augmenting path: take one that is free, or whose version another one can have made.
        for operation in silent:
            if operation.id not in tried and _can_have_made(operation, name, order, floors[operation.id]):
                tried.add(operation.id)
                if operation.id not in makers or place(makers[operation.id], tried):
                    makers[operation.id] = name
                    return True
        return False

    for service, made in order.versions.items():
        for number in range(1, len(made) + 1):
            if (service, number) not in told:
                place((service, number), set())
    by_id = {operation.id: operation for operation in silent}
    return {name: by_id[operation] for operation, name in makers.items()}


def _can_have_made(operation: Operation, name: tuple[str, int], order: Order, floor: Floor) -> bool:
    service, version = name
    document = order.document(service, version)
    if document is None or (operation.service, operation.principal) != (service, document["updated_by"]):
        return False
    outcome = run(operation.command, operation.params, order.state(service, version - 1))
    return outcome.changed and outcome.after == order.state(service, version) and Place.of(document) > floor.place


def _unmade(order: Order, makers: Makers) -> Iterator[Violation]:
    for service, made in order.versions.items():
        for number in range(1, len(made) + 1):
            if (service, number) not in makers:
                yield Violation("account", f"version {number} of {service} was made by no invocation, or by one twice")


def _updates(history: History, order: Order, makers: Makers) -> Iterator[Violation]:
    newest: dict[tuple[str, int], Place] = {}
    for update in sorted(history.updates, key=lambda update: update.at):
        service, version = update.document["service"], update.document["version"]
        name, place = f"the update of {service} to version {version}", Place.of(update.document)
        if order.document(service, version) != update.document:
            yield Violation("update", f"{name} is not what the store has")
        elif (maker := makers.get((service, version))) and maker.invoked > update.at:
            yield Violation("update", f"{name} came before {maker} was invoked")
        if update.live and place < newest.get((service, update.connection), _BEGINNING):
            yield Violation("update", f"{name} came after that of a newer one")
        if update.live:
            newest[service, update.connection] = place


def _retained(history: History, order: Order) -> Iterator[Violation]:
    for service in order.versions.keys() | history.retained.keys():
        made = order.versions.get(service, [])
        newest = made[-1] if made else None
        kept = history.retained.get(service)
        may_be_gone = newest is None or "config" not in newest
        if kept != newest and not (kept is None and may_be_gone):
            found = f"version {kept['version']}" if kept else "nothing"
            yield Violation("retained", f"of {service}, at version {len(made)}, {found} is retained")
