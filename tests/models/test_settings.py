"""Settings as text and as plain values."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.models.zoo import ZOO, config_dict, configure, with_config


@dataclass(frozen=True)
class Config:
    width: int = 8
    rate: float = 0.5
    gated: bool = False
    label: str = "a"
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    kind: Literal["small", "large", 3] = "small"
    limit: int | None = None
    alias: str | None = None
    mixed: tuple[int, str, Literal[1, 2] | None] | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be positive")


SPEC = dataclasses.replace(ZOO["psp1"], name="mine", config=Config())


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("width=64", {"width": 64}), ("width=010", {"width": 10}), ("rate=1e-3", {"rate": 1e-3}),
        ("rate=2", {"rate": 2.0}), ("rate=inf", {"rate": float("inf")}), ("gated=true", {"gated": True}),
        ("gated=False", {"gated": False}), ("label=x=y", {"label": "x=y"}), ("sizes=(7,)", {"sizes": (7,)}),
        ("sizes=128,64,32", {"sizes": (128, 64, 32)}), ("sizes=", {"sizes": ()}), ("pair=3,4", {"pair": (3, 4.0)}),
        ("kind=large", {"kind": "large"}), ("kind=3", {"kind": 3}), ("limit=5", {"limit": 5}),
        ("limit=none", {"limit": None}), ("alias=none", {"alias": None}),
        ("alias=b", {"alias": "b"}), ("alias=5", {"alias": "5"}), ("mixed=3,3,none", {"mixed": (3, "3", None)}),
    ],
)  # fmt: skip
def test_text_becomes_the_annotated_type(setting, expected):
    config = configure(SPEC, [setting]).config
    assert config == dataclasses.replace(Config(), **expected)
    for name, value in expected.items():
        assert type(getattr(config, name)) is type(value)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("width", "--set width: expected name=value"),
        ("widht=3", r"mine has no setting 'widht' \(did you mean width\?\); settings: width \(int, now 8\), rate \(fl"),
        ("width=2.5", r"^mine: width must be int, not '2\.5'$"),
        ("gated=yes", "gated must be true or false, not 'yes'"),
        ("sizes=1,b", "sizes must be list of int, not '1,b'"),
        ("pair=1,2,3", "pair must be list of 2: int, float, not '1,2,3'"),
        ("kind=huge", "kind must be one of small, large, 3, not 'huge'"),
        ("limit=x", "limit must be int or none, not 'x'"),
        ("limit=true", "limit must be int or none, not 'true'"),
        ("mixed=3,a,x", "mixed must be list of 3: int, str, one of 1, 2 or none or none, not '3,a,x'"),
        ("width=0", "mine: width must be positive"),
    ],
)
def test_wrong_settings_are_one_sentence(setting, sentence):
    with pytest.raises(ProtcliError, match=sentence):
        configure(SPEC, [setting])


@pytest.mark.parametrize(
    ("model", "setting", "said"),
    [
        ("crossattn", "channels=100", "crossattn: channels=100 must be a multiple of twice the heads, 8"),
        ("crossattn", "heads=0", "^--set heads is 0: give 1 or more$"),
        ("pairmix", "heads=3", "channels=128 must be a multiple of 8 and of the heads, 3"),
        ("pairmix", "looks=17", "looks=17 must be at most 16, the square of stride"),
        ("pairmix", "stride=0", "--set stride is 0: give 1 or more"),
        ("pairmix", "triangle=-1", "--set triangle is -1: give 0 or more"),
        ("improved", "points_dropout=7", r"^--set points_dropout is 7\.0: give a number from 0 to 1$"),
        ("improved", "dropot=0", r"no setting 'dropot' \(did you mean attention_dropout or points_dropout\?\)"),
        ("psp2", "heads=3", "heads=3 must divide 128"),
        ("simple", "length=long", "simple: length must be int, not 'long'"),
    ],
)
def test_settings_of_our_models_that_cannot_be(model, setting, said):
    with pytest.raises(ProtcliError, match=said):
        configure(ZOO[model], [setting])


def test_plain_values_are_checked_too():
    for values in (
        *({"width": True}, {"width": "8"}, {"width": 8.0}, {"gated": 1}, {"sizes": 3}, {"sizes": [True]}),
        *({"kind": "3"}, {"rate": "fast"}, {"rate": "1e-3"}, {"rate": True}),
        *({"mixed": [1, "a", 3]}, {"label": None}, {"label": object()}),
    ):
        with pytest.raises(ProtcliError, match=f"{next(iter(values))} must be"):
            with_config(SPEC, values)
    with pytest.raises(ProtcliError, match="no setting 'depth'"):
        with_config(SPEC, {"depth": 3})
    # a long value is not said whole
    with pytest.raises(ProtcliError) as error:
        with_config(SPEC, {"sizes": "x" * 1000})
    assert "sizes must be list of int, not 'xxxx" in str(error.value)
    assert str(error.value).endswith("...")
    assert len(str(error.value)) < 120
    # a number of another library becomes a plain one
    assert type(with_config(SPEC, {"rate": np.float64(1)}).config.rate) is float


@dataclass(frozen=True)
class Either:
    value: str | float = 1.0


@given(st.floats(allow_nan=False) | st.text())
def test_text_that_is_a_number_stays_text_where_text_may_be(value):
    assert with_config(dataclasses.replace(SPEC, config=Either()), {"value": value}).config.value == value


def test_a_later_setting_wins_and_the_spec_stays_as_it_was():
    assert configure(SPEC, ["width=1", "width=2", "rate=0"]).config == Config(width=2, rate=0.0)
    assert SPEC.config == Config()
    assert configure(SPEC, []) == SPEC


@given(
    st.builds(
        Config,
        width=st.integers(min_value=1),
        rate=st.floats(allow_nan=False),
        gated=st.booleans(),
        label=st.text(),
        sizes=st.lists(st.integers()).map(tuple),
        pair=st.tuples(st.integers(), st.floats(allow_nan=False)),
        kind=st.sampled_from(["small", "large", 3]),
        limit=st.none() | st.integers(),
        alias=st.none() | st.text(),
        mixed=st.none() | st.tuples(st.integers(), st.text(), st.sampled_from([1, 2, None])),
    )
)
def test_config_goes_through_json(config):
    spec = dataclasses.replace(SPEC, config=config)
    assert with_config(SPEC, json.loads(json.dumps(config_dict(spec)))) == spec
