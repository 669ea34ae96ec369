"""The value of a bound config: frozen, equal to the model's own instances, and silent about secrets."""

import copy
import pickle
import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    SecretStr,
    ValidationError,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic_core import _pydantic_core

from setpoint.guarded import MASK, Path, guarded, misfit, words_at

SECRET = "correct horse"


class Tls(BaseModel):
    """A part of a config."""

    user: str = "pi"
    password: str = ""


class Stt(BaseModel):
    """A service's model."""

    model: str = "base"
    key: str = ""
    token: SecretStr = SecretStr("")
    tls: Tls = Tls()
    others: list[Tls] = []
    free: dict[str, Any] = {}


def test_equals_the_model_and_cannot_be_changed() -> None:
    """A value is an instance of the model, equal both ways to one with the same fields, and no field can be set."""
    value = guarded(Stt(model="small"))
    assert isinstance(value, Stt)
    assert value == Stt(model="small")
    assert Stt(model="small") == value
    assert value != Stt()
    assert type(value).__name__ == "Stt"
    assert repr(value) == repr(Stt(model="small"))
    with pytest.raises(ValidationError, match="frozen"):
        value.model = "large"
    assert value.model_dump() == Stt(model="small").model_dump()
    assert Stt.model_validate(value) == value


def test_models_inside_cannot_be_changed_either() -> None:
    """Models in members, lists, tuples, mappings and sets are frozen, and equal and dump as the model's own."""

    class Point(BaseModel):
        model_config = ConfigDict(frozen=True)
        inner: Tls = Tls()

        def __hash__(self) -> int:
            return 7

    class Deep(BaseModel):
        one: Tls = Tls()
        either: Tls | Stt = Tls()
        many: list[Tls] = [Tls()]
        pair: tuple[int, Tls] = (1, Tls())
        named: dict[str, list[Tls]] = {"a": [Tls()]}
        points: frozenset[Point] = frozenset({Point()})
        root: RootModel[list[Tls]] = RootModel[list[Tls]]([Tls()])

    value = guarded(Deep())
    (point,) = value.points
    inside = [
        value.one,
        value.either,
        value.many[0],
        value.pair[1],
        value.named["a"][0],
        point.inner,
        value.root.root[0],
    ]
    for one in inside:
        with pytest.raises(ValidationError, match="frozen"):
            one.user = "root"  # type: ignore[union-attr]
    assert value == Deep()
    assert Deep() == value
    assert point in Deep().points
    assert value.model_dump_json(warnings="error") == Deep().model_dump_json()
    assert repr(value) == repr(Deep())
    assert type(Deep().one) is Tls


def test_a_part_of_two_values_or_of_itself_is_masked_for_both() -> None:
    """One model in two members is masked for what either may show, and one that leads back to itself ends."""

    class Pair(BaseModel):
        one: dict[str, Any] = {}
        more: dict[str, Any] = {}

        @model_validator(mode="after")
        def _share(self) -> "Pair":
            shared = Stt(key=self.one["key"], tls=Tls(password=self.one["password"]))
            shared.free["self"] = [shared]
            self.one, self.more = {"key": shared}, {"tls": shared}
            return self

    config = {"one": {"key": SECRET, "password": SECRET}}
    value = guarded(Pair.model_validate(config), [("one", "key", "key"), ("more", "tls", "tls", "password")])
    shared = value.one["key"]
    assert shared is value.more["tls"]
    assert SECRET not in repr(shared.tls) + "".join(repr(one) for one in shared.__repr_args__() if one[0] != "free")


def test_a_frozen_model_keeps_its_hash() -> None:
    """What is equal has the same hash, where the model has one."""

    class Point(BaseModel):
        model_config = ConfigDict(frozen=True)
        x: int
        y: int

    assert hash(guarded(Point(x=1, y=2))) == hash(Point(x=1, y=2))


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"key": SECRET}, ("key",)),
        ({"token": SECRET}, ("token",)),
        ({"tls": {"password": SECRET}}, ("tls", "password")),
        ({"tls": {"user": "pi", "password": SECRET}}, ("tls",)),
        ({"others": [{}, {"password": SECRET}]}, ("others", 1, "password")),
        ({"free": {"a": [1, {"b": SECRET}], "c": 2}}, ("free", "a", 1, "b")),
        ({"free": {"a": SECRET}}, ("free", "a")),
    ],
)
def test_shows_no_secret_at_any_depth(config: dict[str, Any], place: Path) -> None:
    """Whatever the type of a member, `repr` and `str` of the value and of the models inside mask it; it can be read."""
    value = guarded(Stt.model_validate(config), [place])
    shown = [repr(value), str(value), f"{value!r:>10}", *map(repr, [value.tls, *value.others])]
    assert not any(SECRET in text for text in shown)
    assert MASK in shown[0]
    assert value == Stt.model_validate(config)
    assert "model='base'" in shown[0]
    assert SECRET not in repr(value.model_copy())


def test_shows_what_is_beside_a_secret() -> None:
    """Members beside a secret are shown as they are."""
    value = guarded(Stt.model_validate({"free": {"a": [1, {"b": SECRET, "c": 3}]}}), [("free", "a", 1, "b")])
    assert f"free={{'a': [1, {{'b': {MASK}, 'c': 3}}]}}" in repr(value)


def test_masks_what_comes_by_another_name_or_is_made_of_it() -> None:
    """Aliases, members that the model does not name, computed fields and a `repr` of the model's own show none."""

    class Named(BaseModel):
        model_config = ConfigDict(extra="allow")
        word: str = Field(default="", validation_alias=AliasChoices("word", "pass"))  # type: ignore[pydantic-alias]
        inner: str = Field(default="", validation_alias=AliasPath("tls", "password"))  # type: ignore[pydantic-alias]

        @computed_field  # type: ignore[prop-decorator]
        @property
        def url(self) -> str:
            return f"https://{self.word}@example.org"

        def __repr__(self) -> str:
            return f"Named {self.word}"

    config = {"pass": SECRET, "tls": {"password": SECRET}, "more": SECRET}
    value = guarded(Named.model_validate(config), [("pass",), ("tls", "password"), ("more",)])
    assert SECRET not in repr(value)
    assert SECRET not in str(value)
    assert value.url == f"https://{SECRET}@example.org"


class Free(RootModel[dict[str, Any]]):
    """A model in name only."""


class Outer(BaseModel):
    """One with such a member."""

    free: Free = Free({})


def test_masks_what_is_a_model_in_name_only() -> None:
    """What a `RootModel` holds stands in the config where the model itself does."""
    value = guarded(Free.model_validate({"password": SECRET, "user": "pi"}), [("password",)])
    assert repr(value) == f"Free(root={{'password': {MASK}, 'user': 'pi'}})"
    assert SECRET not in str(value)
    outer = guarded(Outer.model_validate({"free": {"password": SECRET}}), [("free", "password")])
    assert SECRET not in repr(outer) + repr(outer.free)
    assert MASK in repr(outer)


def test_masks_what_a_validator_has_moved() -> None:
    """Members that hold a secret's text are masked wherever they are; others, and a `repr` of the model's own, stay."""

    class Login(BaseModel):
        word: str

        def __repr__(self) -> str:
            return f"Login {self.word}"

    class Flat(BaseModel):
        user: str
        password: str
        pin: int
        url: str = ""
        login: Login
        other: Login
        logins: list[Login] = []

        @model_validator(mode="before")
        @classmethod
        def _flatten(cls, config: dict[str, Any]) -> dict[str, Any]:
            auth = config.pop("auth")
            login = {"word": auth["password"]}
            return {**auth, "login": login, "other": {"word": "hello"}, "logins": [login]}

        @model_validator(mode="after")
        def _make_url(self) -> "Flat":
            self.url = f"https://{self.password}@example.org"
            return self

    secret = "it's \n a horse"
    config = {"auth": {"user": "pi", "password": secret, "pin": 90210}}
    places: list[Path] = [("auth", "password"), ("auth", "pin")]
    words = words_at(config, places)
    value = guarded(Flat.model_validate(config), places, words)
    for shown in (repr(value), str(value), repr(value.login), str(value.login), repr(value.logins)):
        assert "horse" not in shown
        assert "90210" not in shown
    assert (value.login.word, value.url) == (secret, f"https://{secret}@example.org")
    assert f"user='pi', password={MASK}, pin={MASK}, url={MASK}, login=Login(word={MASK}), other=Login hello" in repr(
        value
    )


def _unpickled(value: Outer) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - it is made here


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, Outer.model_copy, _unpickled])
def test_copies_and_pickles_are_frozen_and_masked_too(again: Any) -> None:
    """A copy, deep or not, and what comes out of a pickle equals the value, shows no secret, and stays frozen."""
    config = {"free": {"password": SECRET}}
    value = guarded(Outer.model_validate(config), [("free", "password")], words_at(config, [("free", "password")]))
    other = again(value)
    assert (other, other.free.root) == (value, {"password": SECRET})
    assert SECRET not in repr(other) + str(other) + repr(other.free)
    for one in (other, other.free):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(one, next(iter(type(one).model_fields)), None)


def test_what_was_put_beside_a_secret_is_not_shown() -> None:
    """In a copy with a model of the caller's own at a secret's place, that one is masked as a whole."""
    value = guarded(Stt.model_validate({"tls": {"password": "first"}}), [("tls", "password")])
    assert SECRET not in repr(value.model_copy(update={"tls": Tls(password=SECRET)}))


class Basic(BaseModel):
    """One of two ways in, whose validator tells what it was given."""

    kind: Literal["basic"] = "basic"
    password: str

    @field_validator("password")
    @classmethod
    def _check(cls, password: str) -> str:
        msg = f"{password} is too short"
        raise ValueError(msg)


class Bearer(BaseModel):
    """The other."""

    kind: Literal["bearer"] = "bearer"
    token: str


class Tagged(BaseModel):
    """Either, by its kind."""

    auth: Annotated[Basic | Bearer, Field(discriminator="kind")]


class Untagged(BaseModel):
    """Either, whichever fits."""

    auth: Basic | Bearer


def _complain(word: str) -> str:
    msg = f"{word} is no good"
    raise AssertionError(msg)


class Named(BaseModel):
    """Words by their names."""

    auth: dict[str, Annotated[str, AfterValidator(_complain)]]


@pytest.mark.parametrize("model", [Tagged, Untagged, Named])
def test_no_word_of_a_validator_is_told_of_a_config_with_secrets(model: type[BaseModel]) -> None:
    """Whatever place pydantic gives, in unions with tags of its own, no validator's words are told beside a secret."""
    with pytest.raises(ValidationError) as found:
        model.model_validate({"auth": {"kind": "basic", "password": SECRET}})
    assert SECRET not in misfit(found.value, [("auth", "password")])
    assert SECRET not in misfit(found.value, [("another",)])
    assert SECRET in misfit(found.value)  # without secrets they are the service's own


def test_a_tag_that_is_none_is_not_repeated() -> None:
    """Of a union's unknown tag it is told where it stands, and not what it is, also where no secrets are."""
    with pytest.raises(ValidationError) as found:
        Tagged.model_validate({"auth": {"kind": "xyzzy"}})
    assert misfit(found.value) == "auth: does not fit (union_tag_invalid)"


REPEATED = {"error", "encoding_error", "tag", "tz_actual"}
PARSERS = ("date", "time", "datetime", "time_delta", "url", "date_from_datetime", "datetime_from_date")


def test_pydantics_messages_that_repeat_are_known() -> None:
    """All kinds of its messages with a part of what came are told by kind; its parsers' fixed phrases are not that."""
    fixed = {f"{kind}_parsing" for kind in PARSERS} | {"url_syntax_violation"}
    for known in _pydantic_core.list_all_errors():
        kind, parts = known["type"], set(re.findall(r"{(\w+)}", known["message_template_python"]))
        problem: Any = {"type": kind, "loc": ("a",), "input": "xyzzy", "ctx": known["example_context"] or {}}
        if kind not in ("value_error", "assertion_error"):
            error = ValidationError.from_exception_data("test", [problem])
            told = misfit(error) == f"a: does not fit ({kind})"
            assert told == bool(parts & REPEATED and kind not in fixed), kind


def test_says_what_does_not_fit_without_values() -> None:
    """Misfits are told by place and reason; at a secret's place, or around it, without the words of a validator."""

    class Checked(BaseModel):
        threads: int = 1
        word: str = ""

        @field_validator("word")
        @classmethod
        def _check(cls, word: str) -> str:
            msg = f"{word} is too short"
            raise ValueError(msg)

    with pytest.raises(ValidationError) as found:
        Checked.model_validate({"threads": "many", "word": SECRET})
    assert misfit(found.value, [("word",)]) == (
        "threads: Input should be a valid integer, unable to parse string as an integer;"
        " word: does not fit (value_error)"
    )


def test_a_long_list_of_misfits_is_cut() -> None:
    """What does not fit is told in 500 characters at most, which is what a report holds."""

    class Many(BaseModel):
        numbers: list[int]

    with pytest.raises(ValidationError) as found:
        Many.model_validate({"numbers": ["x"] * 1000})
    text = misfit(found.value)
    assert text.startswith("numbers.0: ")
    assert len(text) <= 500
