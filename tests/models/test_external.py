"""Models of the user's own: files, entry points, and the file that the documentation shows."""

import re
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

from protcli.errors import ProtcliError
from protcli.models import external
from protcli.models.external import load_entry_point, load_model_file, source_file
from protcli.models.summary import summarize
from protcli.models.zoo import ZOO, config_dict, configure, find_model, known_models, model_names, with_config
from protcli.proteins.maps import upper_pairs

DOCS = Path(__file__).parents[2] / "docs" / "own-model.md"


def documented_model() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    return code


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "my_model.py"
    path.write_text(documented_model(), encoding="utf-8")
    return path


def test_the_documented_model_trains(model_file, batch):
    spec = find_model("pair-net", model_file)
    torch.manual_seed(0)
    model = spec.build()
    walks = batch([48, 30], 48)
    target = torch.cdist(walks.coords, walks.coords)
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.recipe.lr)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        distance = model(walks.residues).distance
        loss = (distance - target)[upper_pairs(walks.mask)].square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in model.parameters())
    assert torch.equal(distance, distance.mT)
    assert (distance.diagonal(dim1=1, dim2=2) == 0).all()


def test_the_documented_model_is_one_of_the_models(model_file):
    assert model_names(model_file) == [*ZOO, "pair-net"]
    assert list(known_models(model_file)) == [*ZOO, "pair-net"]
    assert find_model("psp1", model_file) is ZOO["psp1"]
    wide = configure(find_model("pair-net", model_file), ["channels=64"])
    assert config_dict(wide) == {"channels": 64, "blocks": 4}
    assert config_dict(with_config(find_model("pair-net", model_file), config_dict(wide))) == config_dict(wide)
    assert summarize(wide, length=32).parameters == 42 * 64 + 64 + 65 * 64 + 4 * (9 * 64 * 64 + 64) + 64 + 1


def test_its_file_is_known_and_ours_have_none(model_file):
    spec = find_model("pair-net", model_file)
    assert source_file(spec) == model_file.resolve()
    assert source_file(configure(spec, ["blocks=2"])) == model_file.resolve()
    assert all(source_file(ours) is None for ours in ZOO.values())


def test_a_variant_of_our_own_family_has_the_users_file(tmp_path):
    path = tmp_path / "variant.py"
    path.write_text(
        "from dataclasses import replace\nfrom protcli.models.zoo import ZOO\n"
        "psp = replace(ZOO['psp1'], name='psp-wet', config=replace(ZOO['psp1'].config, dropout=0.9))\n"
    )
    spec = find_model("psp-wet", path)
    assert spec.config.dropout == 0.9
    assert source_file(spec) == path.resolve()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\ndef f(:\n", r"my_model\.py, line 2: invalid syntax"),
        ("x = 1\n", r"my_model\.py: no ModelSpec at module level; docs/own-model\.md shows"),
        ("\nimport no_such_module\n", r"my_model\.py, line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)\n", r"my_model\.py, line 1: SystemExit: 3"),
        ("x = '\0'\n", r"my_model\.py.*null bytes"),
        (
            "from protcli.models.zoo import ZOO\nmine = ZOO['psp1']\n",
            r"my_model\.py: 'psp1' is the name of one of protcli's own models; choose another",
        ),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "my_model.py"
    path.write_text(text)
    before = set(sys.modules)
    with pytest.raises(ProtcliError, match=sentence) as error:
        find_model("mine", path)
    assert "\n" not in str(error.value)
    if "raise" in text:
        assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("config=PairNetConfig()", "config={'channels': 1}", r"config of 'pair-net' must be a value of a @dataclass"),
        ("@dataclass(frozen=True)", "@dataclass", r"must be a value of a @dataclass\(frozen=True\)"),
        ("family=PairNet", "family=PairNetConfig", r"the family of 'pair-net' must be a subclass of torch\.nn\.Module"),
        ("recipe=Recipe(", "recipe=dict(", r"the recipe of 'pair-net' must be a Recipe"),
    ],
)
def test_an_unsound_model_is_refused(model_file, old, new, sentence):
    model_file.write_text(documented_model().replace(old, new))
    with pytest.raises(ProtcliError, match=sentence):
        load_model_file(model_file)


def test_two_models_of_one_name(model_file):
    model_file.write_text(documented_model() + "import dataclasses\nb = dataclasses.replace(pair_net, summary='b')\n")
    with pytest.raises(ProtcliError, match="two models are named 'pair-net'"):
        load_model_file(model_file)


def test_missing_file_and_missing_name(tmp_path, model_file):
    with pytest.raises(ProtcliError, match=r"there is no model file .*nowhere\.py"):
        find_model("psp1", tmp_path / "nowhere.py")
    with pytest.raises(ProtcliError, match=r"no model 'pairnet' \(did you mean pair-net\?\); known: .*psp1.*pair-net"):
        find_model("pairnet", model_file)


def offer(monkeypatch, *points: tuple[str, str]) -> None:
    """Pretend that an installed package has these entry points."""
    listed = EntryPoints(EntryPoint(name, value, external.GROUP) for name, value in points)
    monkeypatch.setattr(external, "entry_points", lambda **wanted: listed.select(**wanted))


def test_entry_points(monkeypatch, tmp_path):
    (tmp_path / "plugin_of_a_package.py").write_text(documented_model())
    monkeypatch.syspath_prepend(tmp_path)
    offer(
        monkeypatch,
        ("pair-net", "plugin_of_a_package:pair_net"),
        ("other", "plugin_of_a_package:pair_net"),
        ("config", "plugin_of_a_package:PairNetConfig"),
        ("gone", "no_such_package:model"),
    )
    assert find_model("pair-net").name == "pair-net"
    assert source_file(find_model("pair-net")) == (tmp_path / "plugin_of_a_package.py").resolve()
    assert model_names() == [*ZOO, "config", "gone", "other", "pair-net"]
    with pytest.raises(ProtcliError, match=r"other = .*the model there is named 'pair-net'"):
        load_entry_point("other")
    with pytest.raises(ProtcliError, match=r"config = .*expected a ModelSpec, found type"):
        load_entry_point("config")
    with pytest.raises(ProtcliError, match=r"entry point gone = no_such_package:model: ModuleNotFoundError"):
        load_entry_point("gone")
