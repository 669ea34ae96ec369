"""The value of a bound config: frozen, equal to the model's own instances, and silent about secrets."""

from typing import Any

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    computed_field,
    field_validator,
)

from setpoint.guarded import MASK, Path, guarded, misfit

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
