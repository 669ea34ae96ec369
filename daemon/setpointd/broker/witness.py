"""What the broker shows before the daemon takes its session: what is retained, and who lives (wire section 7)."""

from collections.abc import Callable, Mapping
from itertools import chain

from setpoint_contracts import Topics
from setpointd.broker import look
from setpointd.broker.look import Retained
from setpointd.broker.sight import Published, Sight, Spoken, listen
from setpointd.keys import Keys
from setpointd.render import retained_payload
from setpointd.settings import Settings
from setpointd.store import Snapshot

PROOF_OF_LIFE_S = 3.0
PROOF_HOLDS_S = 60.0


class Witness:
    """Looks at the broker on throwaway connections. Its methods raise ``BrokerLostError`` or ``OperatorError``."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys
        self._topics = Topics(settings.topic_prefix)

    async def look(self) -> dict[str, Retained]:
        """Return what daemons retain, by topic: health, claim, keys, updates and schemas."""
        topics = self._topics
        filters = (topics.health, topics.epoch, topics.keys, topics.all_updated, topics.all_schemas)
        return await look.look(self._settings, filters, topics.look)

    async def alive(self, sight: Sight) -> str | None:
        """Name the instance that proves to live when it is asked; None: nobody does.

        Asked is whoever is said to live, and anybody where the health topic says nothing although a daemon was there.
        Noise is no answer, nor is what was said before. Who is said to be dead is not asked.
        """
        living = sight.living
        if living is None and not (sight.health is None and sight.occupied):
            return None

        def proves(spoken: Spoken) -> bool:
            if living is not None and _instance(spoken) == _instance(living):
                return spoken.own == living.own and _moment(spoken) > _moment(living)
            return not spoken.own or spoken.number("epoch") >= sight.own.epoch  # no earlier life of this store

        return await self._ask(sight, proves)

    async def other(self, sight: Sight, instance: str) -> str | None:
        """Name another daemon of this store that lives while ``instance`` runs, and may have taken its session."""

        def is_other(spoken: Spoken) -> bool:
            later = spoken.number("epoch") >= sight.own.epoch
            return spoken.own and later and _is_ok(spoken) and _instance(spoken) != instance

        # A claim is enough to ask: what stands on the health topic may be this daemon's own Last Will.
        suspected = sight.superseded(instance) or (sight.living is not None and is_other(sight.living))
        return await self._ask(sight, is_other) if suspected else None

    async def wait_for_news(self, sight: Sight) -> None:
        """Wait until the health document names another instance than in ``sight``, or says that none lives.

        Not for ever: what proved that somebody lives is asked for again now and then.
        """
        known = _life(sight.health)

        def is_news(said: Retained) -> bool:
            spoken = self._health(said, sight)
            return spoken is not None and _life(spoken) != known

        await self._wait_for(is_news, wait_s=PROOF_HOLDS_S)

    async def _ask(self, sight: Sight, answers: Callable[[Spoken], bool]) -> str | None:
        def counts(said: Retained) -> bool:
            spoken = self._health(said, sight)
            return spoken is not None and answers(spoken)

        said = await self._wait_for(counts, ask=self._topics.look_ask, wait_s=PROOF_OF_LIFE_S)
        answer = None if said is None else self._health(said, sight)
        return str(_instance(answer)) if answer is not None and _is_ok(answer) else None

    async def _wait_for(
        self, is_awaited: Callable[[Retained], bool], *, ask: str | None = None, wait_s: float
    ) -> Retained | None:
        """Wait for a health document."""
        from setpointd.broker import waiting  # noqa: PLC0415 - large, and most starts wait for nobody

        return await waiting.wait_for(self._settings, self._topics.health, is_awaited, ask=ask, wait_s=wait_s)

    def _health(self, said: Retained, sight: Sight) -> Spoken | None:
        return listen(self._topics.health, said, self._keys, sight.others)


def retainable(snapshot: Snapshot, topics: Topics, there: Mapping[str, Published]) -> dict[str, bytes]:
    """Return what a store would have retained of its services: topic → payload.

    Where the same is ``there`` already, it is that payload and no copy: all of both are held at once.
    """
    updates = ((topics.updated(each.service), retained_payload(each)) for each in snapshot.config.retained())
    schemas = ((topics.schema(service), text.encode()) for service, text in snapshot.schemas.retained())
    found = {}
    for topic, payload in chain(updates, schemas):
        said = there.get(topic)
        found[topic] = said.payload if said is not None and said.payload == payload else payload
    return found


def _life(spoken: Spoken | None) -> tuple[bool, object] | None:
    return None if spoken is None else (_is_ok(spoken), _instance(spoken))


def _instance(spoken: Spoken) -> object:
    return spoken.document.get("instance")


def _is_ok(spoken: Spoken) -> bool:
    return spoken.document.get("ok") is True


def _moment(spoken: Spoken) -> str:
    return str(spoken.document.get("timestamp"))
