"""The value of a bound config: an instance of the service's own model, frozen, whose ``repr`` shows no secret.

Rules:

- It is made by the model's own validation; then it and all models inside, also in lists, tuples, sets and mappings,
  become instances of a subclass, which is frozen. A subclass goes by its model's name, and its instances equal the
  model's. Copies and pickles keep it. Lists and mappings themselves stay what they are, and can be changed.
- Where a secret came from is known by its place in the config. A member that holds one is masked, whatever its type;
  of what is not a model, a list or a mapping all is, since how it shows itself is its own business.
- Validators may move what came, or put it into other words. So a member in whose text a secret stands is masked too,
  wherever it is: a text of four characters or more, as it stood in the config. What a validator made of it otherwise
  (a shorter one, another case, a digest) and moved to another place is shown.
- What does not fit is told by its place, and in pydantic's words where they repeat nothing of what came, else by its
  kind. A validator's own words are the service's own: they are told where no secret is in the config. Its place cannot
  decide that: within a union or a mapping pydantic gives it steps that are not in the config.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, TypeVar, get_args

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, PrivateAttr, RootModel, ValidationError
from pydantic_core.core_schema import ErrorType

from setpoint_contracts.misfits import line, misfits
from setpoint_contracts.pointers import Step

MASK = "**********"  # pydantic's own of a SecretStr

_MAX_ERROR = 500  # of an applied report (wire section 6)
_MODELS_KEPT = 256
_TOLD = 10
_SHORTEST_WORD = 4  # shorter ones stand in any text
_PLAIN = (str, int, float, bool, type(None))

_OWN_WORDS = {"value_error", "assertion_error"}
_REPEATING = {
    "bytes_invalid_encoding",
    "datetime_object_invalid",
    "get_attribute_error",
    "iteration_error",
    "json_invalid",
    "mapping_type",
    "timezone_offset",
    "union_tag_invalid",
    "uuid_parsing",
}
"""Kinds of pydantic's own whose message has, or may have, a part of what came."""
_PYDANTICS = frozenset(get_args(ErrorType)) - _OWN_WORDS

M = TypeVar("M", bound=BaseModel)
Path = tuple[Step, ...]
"""The steps to a place in a config."""
Places = frozenset[Path]


def guarded(value: M, places: Iterable[Path] = (), words: Iterable[str] = ()) -> M:
    """Freeze a value, and mask in its ``repr`` what stands at some places of its config, and what has some words.

    It is the same object, and so are the models inside.
    """
    _guard(value, frozenset(places), frozenset(words), {})
    return value


def words_at(config: Any, places: Iterable[Path]) -> set[str]:
    """Collect the texts at some places of a config by which a secret is known wherever it stands."""
    found: set[str] = set()
    for place in places:
        value = config
        for step in place:
            value = value[step]
        found |= _words(value)
    return found


def misfit(error: ValidationError, places: Collection[Path] = ()) -> str:
    """Say in a line why a config does not fit its model; no value is in it but what a validator's own words have.

    ``places`` are those of the config's secrets: where there are any, no word of a validator is told, and at these
    places none of pydantic's.
    """
    told = []
    for found, problem in zip(misfits(error), error.errors(include_url=False, include_input=False), strict=True):
        loc = problem["loc"]
        at_one = any(place[: len(loc)] == loc[: len(place)] for place in places)
        repeats = found["type"] in _REPEATING or (places and found["type"] not in _PYDANTICS)
        told.append(line({**found, "message": f"does not fit ({found['type']})"} if at_one or repeats else found))
    more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    text = "; ".join(told[:_TOLD]) + more
    return text if len(text) <= _MAX_ERROR else text[: _MAX_ERROR - 1] + "…"


class _Shown:
    """What a ``repr`` shows in a member's place."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


@lru_cache(_MODELS_KEPT)
def _subclass(model: type[M]) -> type[M]:
    if _is_guarded(model):
        return model

    class Guarded(model):  # type: ignore[misc, valid-type] # noqa: PLW1641 - pydantic makes the hash of a frozen model
        __slots__ = ()
        model_config = ConfigDict(frozen=True)
        _secret_places: Places = PrivateAttr(default=frozenset())
        _secret_words: frozenset[str] = PrivateAttr(default=frozenset())

        def __eq__(self, other: object) -> bool:
            if not isinstance(other, model):
                return NotImplemented
            return _fields(self) == _fields(other)

        def __repr__(self) -> str:
            return _masked(self, super().__repr__, BaseModel.__repr__)

        def __str__(self) -> str:
            return _masked(self, super().__str__, BaseModel.__str__)

        def __repr_args__(self) -> Any:
            return _masked_args(self, super().__repr_args__(), model)

        def __reduce__(self) -> Any:
            return _restored, (model, self.__getstate__())

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Guarded, name, getattr(model, name))
    if model.__hash__ is not None:
        Guarded.__hash__ = model.__hash__  # type: ignore[method-assign]
    return Guarded


def _masked(value: Any, own: Callable[[], str], safe: Callable[[BaseModel], str]) -> str:
    """Show a value as its model does, unless that may show a secret; else as pydantic does, member by member."""
    text = safe(value) if value._secret_places else own()  # noqa: SLF001 - of this module's own subclass
    return safe(value) if _tells(text, value._secret_words) else text  # noqa: SLF001


def _masked_args(value: Any, members: Iterable[Any], model: type[BaseModel]) -> Iterator[tuple[str | None, Any]]:
    places, words = value._secret_places, value._secret_words  # noqa: SLF001
    for name, member in members:
        below = _inside(places, model, name or "")
        text = _shown(member, below) if places or words else ""
        made = places and name in model.model_computed_fields  # it may be made of a secret
        if made or _tells(text, words):
            yield name, _Shown(MASK)
        else:
            yield name, _Shown(text) if below else member


def _restored(model: type[M], state: dict[Any, Any]) -> M:
    """Make of a pickle what it was made of: frozen and masked again."""
    kind: type[M] = _subclass(model)
    value = BaseModel.__new__(kind)
    value.__setstate__(state)
    return value


def _is_guarded(model: type[BaseModel]) -> bool:
    return "_secret_places" in model.__private_attributes__


def _fields(value: BaseModel) -> dict[str, Any]:
    fields = {name: value.__dict__.get(name) for name in type(value).model_fields}
    return {**fields, **(value.__pydantic_extra__ or {})}


def _guard(value: Any, places: Places, words: frozenset[str], done: dict[int, Places]) -> None:
    """Guard all models in a value. ``done``: the places of those that were, since one may be reached by two ways."""
    if isinstance(value, BaseModel):
        if (before := done.get(id(value))) is not None and places <= before:
            return
        done[id(value)] = places = places | (before or frozenset())
        inside = [*value.__dict__.items(), *(value.__pydantic_extra__ or {}).items()]
        members = [(member, _inside(places, type(value), name)) for name, member in inside]
        _mark(value, places, words)
    elif isinstance(value, Mapping):
        members = [(member, _below(places, _keys(name))) for name, member in value.items()]
    elif isinstance(value, list | tuple):
        members = [(item, _below(places, {(place,)})) for place, item in enumerate(value) if type(item) not in _PLAIN]
    elif isinstance(value, AbstractSet | deque):  # whatever its order was
        members = [(item, frozenset(place[1:] for place in places)) for item in value if type(item) not in _PLAIN]
    else:
        return
    for member, below in members:
        _guard(member, below, words, done)


def _mark(value: BaseModel, places: Places, words: frozenset[str]) -> None:
    private = value.__pydantic_private__ or {}
    if _is_guarded(type(value)):  # a part of two values
        places, words = places | private["_secret_places"], words | private["_secret_words"]
    object.__setattr__(value, "__class__", _subclass(type(value)))
    secret = {"_secret_places": places, "_secret_words": words}
    object.__setattr__(value, "__pydantic_private__", {**private, **secret})


def _shown(value: Any, places: Places) -> str:
    """Write a value as ``repr`` does, without what stands at the places."""
    if not places:
        return repr(value)
    if () in places:
        return MASK
    if isinstance(value, BaseModel) and _is_guarded(type(value)):
        return repr(value)
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{name!r}: {_shown(one, _below(places, _keys(name)))}" for name, one in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item, _below(places, {(place,)})) for place, item in enumerate(value)) + "]"
    return MASK


def _words(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return set().union(*map(_words, value.values()))
    if isinstance(value, list):
        return set().union(*map(_words, value))
    text = "" if isinstance(value, bool | None) else str(value)
    if len(text) < _SHORTEST_WORD:
        return set()
    escaped = repr(text)[1:-1]
    return {text, escaped, escaped.replace("'", "\\'")}


def _tells(text: str, words: Collection[str]) -> bool:
    return any(word in text for word in words)


def _below(places: Places, names: Collection[Path]) -> Places:
    """Give the places inside a member, from there; itself is the empty one, and so is all that is inside a secret."""
    if not places:
        return places
    found = {place[len(name) :] for place in places for name in names if place[: len(name)] == name[: len(place)]}
    return frozenset(found)


def _inside(places: Places, model: type[BaseModel], name: str) -> Places:
    """Give the places inside a model's member: of what is a model in name only, its own."""
    return places if not places or issubclass(model, RootModel) else _below(places, _names(model, name))


def _keys(name: Any) -> set[Path]:
    return {(name,), (str(name),)}


def _names(model: type[BaseModel], name: str) -> set[Path]:
    """Where in the config a field may come from."""
    field = model.model_fields.get(name)
    if field is None:
        return {(name,)}
    found: list[Any] = [name, field.alias]
    alias = field.validation_alias
    found += alias.choices if isinstance(alias, AliasChoices) else [alias]
    return {tuple(one.path) if isinstance(one, AliasPath) else (one,) for one in found if one is not None}
