"""The value of a bound config: an instance of the service's own model, frozen, whose ``repr`` shows no secret.

Rules:

- It is made by the model's own validation; then it and the models inside that hold secrets become instances of a
  subclass, which is frozen. A subclass goes by its model's name, and its instances equal the model's.
- Where a secret came from is known by its place in the config. A member that holds one is masked, whatever its type;
  of what is not a model, a list or a mapping all is, since how it shows itself is its own business.
- What does not fit is told by its place and its kind; at a place that holds a secret, without the model's own words,
  which may repeat it.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, PrivateAttr, ValidationError

from setpoint_contracts.misfits import line, misfits
from setpoint_contracts.pointers import Step

MASK = "**********"  # pydantic's own of a SecretStr

_MAX_ERROR = 500  # of an applied report (wire section 6)
_MODELS_KEPT = 256
_TOLD = 10

M = TypeVar("M", bound=BaseModel)
Path = tuple[Step, ...]
"""The steps to a place in a config."""


def guarded(value: M, places: Iterable[Path] = ()) -> M:
    """Freeze a value, and mask in its ``repr`` what stands at some places of its config.

    It is the same object; only models inside that hold none of the places stay as they are.
    """
    places = frozenset(places)
    members: dict[str, Any] = {**value.__dict__, **(value.__pydantic_extra__ or {})}
    for name, member in members.items():
        _guard(member, _below(places, _names(type(value), name)))
    object.__setattr__(value, "__class__", _subclass(type(value)))
    object.__setattr__(value, "__pydantic_private__", {**(value.__pydantic_private__ or {}), "_secret_places": places})
    return value


def misfit(error: ValidationError, places: Collection[Path] = ()) -> str:
    """Say in a line why a config does not fit its model; no value is in it, and no word of a validator at a secret."""
    told = []
    for found, problem in zip(misfits(error), error.errors(include_url=False, include_input=False), strict=True):
        where = tuple(problem["loc"])
        secret = any(place[: len(where)] == where[: len(place)] for place in places)
        told.append(line({**found, "message": f"does not fit ({found['type']})"} if secret else found))
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
    if "_secret_places" in model.__private_attributes__:
        return model  # it is guarded already

    class Guarded(model):  # type: ignore[misc, valid-type] # noqa: PLW1641 - pydantic makes the hash of a frozen model
        model_config = ConfigDict(frozen=True)
        _secret_places: frozenset[Path] = PrivateAttr(default=frozenset())

        def __eq__(self, other: object) -> bool:
            if not isinstance(other, model):
                return NotImplemented
            return _fields(self) == _fields(other)

        def __repr__(self) -> str:
            return BaseModel.__repr__(self) if self._secret_places else super().__repr__()

        def __str__(self) -> str:
            return BaseModel.__str__(self) if self._secret_places else super().__str__()

        def __repr_args__(self) -> Any:
            places = self._secret_places
            for name, member in super().__repr_args__():
                below = _below(places, _names(model, name or ""))
                if places and name in model.model_computed_fields:  # it may be made of a secret
                    yield name, _Shown(MASK)
                else:
                    yield name, _Shown(_shown(member, below)) if below else member

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Guarded, name, getattr(model, name))
    return Guarded


def _fields(value: BaseModel) -> dict[str, Any]:
    fields = {name: value.__dict__.get(name) for name in type(value).model_fields}
    return {**fields, **(value.__pydantic_extra__ or {})}


def _guard(value: Any, places: frozenset[Path]) -> None:
    """Guard the models in a value that hold a secret."""
    if not places:
        return
    if isinstance(value, BaseModel):
        guarded(value, places)
    elif isinstance(value, Mapping):
        for name, member in value.items():
            _guard(member, _below(places, {name}))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _guard(item, _below(places, {place}))


def _shown(value: Any, places: frozenset[Path]) -> str:
    """Write a value as ``repr`` does, without what stands at the places."""
    if not places:
        return repr(value)
    if () in places:
        return MASK
    if isinstance(value, BaseModel):  # guarded itself
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_shown(one, _below(places, {name}))}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item, _below(places, {place})) for place, item in enumerate(value)) + "]"
    return MASK


def _below(places: Collection[Path], names: Collection[Step]) -> frozenset[Path]:
    """Give the places inside a member, from there; itself is the empty one, and so is all that is inside a secret."""
    whole = {()} if () in places else set()
    return frozenset({*whole, *(place[1:] for place in places if place and place[0] in names)})


def _names(model: type[BaseModel], name: str) -> set[Step]:
    """Under which names of the config a field may come."""
    field = model.model_fields.get(name)
    if field is None:
        return {name}
    found: list[Any] = [name, field.alias]
    alias = field.validation_alias
    found += alias.choices if isinstance(alias, AliasChoices) else [alias]
    return {one.path[0] if isinstance(one, AliasPath) else one for one in found if one is not None}
