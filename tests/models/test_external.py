"""Models of the user's own: files, entry points, and the file that the documentation shows."""

import re
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

from protcli.errors import ProtcliError
from protcli.models import external
from protcli.models.external import as_user_error, is_lack_of_memory, load_entry_point, load_model_file
from protcli.models.summary import parameter_count, summarize
from protcli.models.zoo import ZOO, config_dict, configure, find_model, known_models, with_config
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


def variant(folder: Path, spec: str) -> Path:
    """A file with a variant of a built-in model."""
    path = folder / "variant.py"
    path.write_text(f"from dataclasses import replace\nfrom protcli.models.zoo import ZOO\nmine = {spec}\n")
    return path


def test_the_documented_model_can_be_trained(model_file, batch):
    model = find_model("pair-net", model_file).build()
    walks = batch([48, 30], 48)
    distance = model(walks.residues).distance
    (distance - torch.cdist(walks.coords, walks.coords))[upper_pairs(walks.mask)].square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_documented_model_is_one_of_the_models(model_file, tmp_path):
    assert list(known_models(model_file)) == [*ZOO, "pair-net"]
    assert find_model("psp1", model_file) is ZOO["psp1"]
    wide = configure(find_model("pair-net", model_file), ["channels=64"])
    assert config_dict(wide) == {"channels": 64, "blocks": 4}
    assert config_dict(with_config(find_model("pair-net", model_file), config_dict(wide))) == config_dict(wide)
    assert summarize(wide, length=32).parameters == 42 * 64 + 64 + 65 * 64 + 4 * (9 * 64 * 64 + 64) + 64 + 1
    assert find_model("pair-net", model_file).source == wide.source == model_file.resolve()
    assert all(ours.source is None for ours in ZOO.values())
    path = variant(tmp_path, "replace(ZOO['psp1'], name='psp-wet', config=replace(ZOO['psp1'].config, dropout=0.9))")
    spec = find_model("psp-wet", path)
    assert (spec.config.dropout, spec.source) == (0.9, path.resolve())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\ndef f(:\n", r"my_model\.py, line 2: invalid syntax"),
        ("x = 1\n", r"my_model\.py: no ModelSpec at module level; docs/own-model\.md shows"),
        ("\nimport no_such_module\n", r"my_model\.py, line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)\n", r"my_model\.py, line 1: SystemExit: 3"),
        ("raise RuntimeError('one\\ntwo')\n", r"my_model\.py, line 1: RuntimeError: one$"),
        ("x = '\0'\n", r"my_model\.py: .*null bytes"),
        ("x = " + "(" * 5000, r"my_model\.py.*: .*(nested|parenthes)"),
        ("from protcli.models.zoo import ZOO\nmine = ZOO['psp1']\n", "'psp1' is the name of a built-in model; choose "),
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
        ("network=PairNet", "network=PairNetConfig", "the network of 'pair-net' must be a subclass of torch"),
        ("recipe=Recipe(", "recipe=dict(", r"the recipe of 'pair-net' must be a Recipe"),
        ("blocks: int = 4", "blocks: dict[str, int] = None", r"config of 'pair-net': blocks is annotated dict\[str, i"),
        ("blocks: int = 4", "blocks: tuple = ()", "blocks is annotated tuple: a setting is an int"),
        ("blocks: int = 4", "blocks: 'Blocks' = 4", "an annotation cannot be read: name 'Blocks' is not defined"),
        ("blocks: int = 4", "blocks: float = '1e-3'", "blocks must be float, not '1e-3'"),
        ("blocks: int = 4", "blocks: tuple[int, ...] = None", r"blocks must be list of int, not None"),
        ("epochs=5", "epochs='many'", "recipe of 'pair-net': epochs must be int, not 'many'"),
        ('name="pair-net"', "name=3", "name and summary must be text, not 3, 'dilated"),
    ],
)
def test_an_unsound_model_is_refused(model_file, old, new, sentence):
    model_file.write_text(documented_model().replace(old, new))
    with pytest.raises(ProtcliError, match=sentence):
        load_model_file(model_file)


FORWARD = "pairs = single[:, :, None]"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (FORWARD, "raise KeyError('one\\ntwo')", "line {line}: KeyError: 'one\\ntwo'"),
        (FORWARD, "raise RuntimeError('one\\ntwo')", "line {line}: RuntimeError: one"),
        (FORWARD, "raise SystemExit(2)", "line {line}: SystemExit: 2"),
        (FORWARD, "assert False", "line {line}: AssertionError"),
        (FORWARD, "raise ValueError('too long')", "line {line}: ValueError: too long"),
        (FORWARD, "single.view(7, 7)", "line {line}: RuntimeError: shape '[7, 7]' is invalid for input of size 512"),
        ("nn.init.constant_", "nn.init.constants_", "line {line}: AttributeError: module 'torch.nn.init' has no"),
        ("super().__init__()", "pass", "line {after}: AttributeError: cannot assign module before Module.__init__()"),
        ("def forward(", "def forwards(", ': NotImplementedError: Module [PairNet] is missing the required "forward"'),
        ("forward(self, residues: Residues)", "forward(self)", ": TypeError: PairNet.forward() takes 1 positional"),
        ("self, config: PairNetConfig", "self", ": TypeError: PairNet.__init__() takes 1 positional"),
    ],
)
def test_what_a_model_raises_is_one_sentence_with_its_line(model_file, old, new, sentence):
    text = documented_model()
    line = text[: text.index(old)].count("\n") + 1
    model_file.write_text(text.replace(old, new + "; " + old if old == FORWARD else new))
    with pytest.raises(ProtcliError) as error:
        summarize(find_model("pair-net", model_file), length=16)
    expected = sentence.replace("{line}", str(line)).replace("{after}", str(line + 1))
    before = ", " if expected.startswith("line") else ""
    assert str(error.value).startswith(f"{model_file}{before}{expected}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("raise MemoryError()", MemoryError),
        ("raise torch.OutOfMemoryError('CUDA')", torch.OutOfMemoryError),
        ("raise KeyboardInterrupt()", KeyboardInterrupt),
        ("torch.empty(10**15)", RuntimeError),  # torch's refusal of memory on the CPU
    ],
)
def test_lack_of_memory_and_an_interrupt_pass(model_file, statement, error):
    model_file.write_text(documented_model().replace(FORWARD, f"{statement}; {FORWARD}"))
    with pytest.raises(error) as raised:
        summarize(find_model("pair-net", model_file), length=16)
    if error is RuntimeError:
        assert "allocate memory" in str(raised.value)
        assert is_lack_of_memory(raised.value)
        assert not is_lack_of_memory(RuntimeError("shapes do not fit"))


def test_errors_that_are_not_the_models_pass(model_file, batch):
    spec = find_model("pair-net", model_file)
    with pytest.raises(OSError, match="disk full"), as_user_error(spec):
        raise OSError("disk full")
    with pytest.raises(ProtcliError, match=r"^one sentence$"), as_user_error(spec):
        raise ProtcliError("one sentence")
    with pytest.raises(RuntimeError, match="of ours"), as_user_error(ZOO["psp1"]):
        raise RuntimeError("of ours")
    with pytest.raises(ProtcliError, match=r"my_model\.py: RuntimeError: element 0 of tensors"), as_user_error(spec):
        spec.build().requires_grad_(False)(batch([8], 8).residues).distance.sum().backward()


def test_an_error_of_a_built_in_model_in_the_users_file_stays(tmp_path):
    spec = find_model("mine", variant(tmp_path, "replace(ZOO['improved'], name='mine')"))
    with pytest.raises(ValueError, match="256"):
        summarize(spec, length=300)


def test_a_config_that_refuses_its_values_and_a_model_that_cannot_be_built(model_file):
    check = "    blocks: int = 4\n\n    def __post_init__(self):\n        assert self.blocks < 9\n"
    model_file.write_text(documented_model().replace("    blocks: int = 4\n", check))
    with pytest.raises(ProtcliError, match=r"my_model\.py, line 15: AssertionError$"):
        configure(find_model("pair-net", model_file), ["blocks=9"])
    model_file.write_text(documented_model().replace("nn.Embedding(65", "nn.Embedding(-65"))
    with pytest.raises(ProtcliError, match=r"my_model\.py, line 19: RuntimeError: "):
        parameter_count(find_model("pair-net", model_file))


PREDICTION = "Prediction(symmetric * (index[:, None] != index[None, :]))"
SYMMETRIC = "(raw + raw.mT) / 2"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (PREDICTION, "symmetric", "its forward must return a Prediction, not Tensor"),
        (PREDICTION, "None", "not NoneType"),
        (PREDICTION, "Prediction(None)", "its distance must be a floating-point tensor, not NoneType"),
        (PREDICTION, "Prediction(symmetric.long())", "must be a floating-point tensor, not torch.int64"),
        (PREDICTION, "Prediction(raw[:, 1:])", r"must be \[B, L, L\] = \[1, 16, 16\], not \[1, 15, 16\]"),
        (PREDICTION, PREDICTION.replace("symmetric", "symmetric[:1]"), r"= \[2, 16, 16\], not \[1, 16, 16\]"),
        (PREDICTION, "Prediction(symmetric)", r"\d angstrom on the diagonal, which must be zero"),
        (PREDICTION, PREDICTION.replace("symmetric", "(symmetric / 0)"), "its distance is not finite everywhere"),
        (SYMMETRIC, "raw", r"not symmetric: \[i, j\] and \[j, i\] are up to .* angstrom apart"),
        (SYMMETRIC, "(raw + raw.mT) / residues.mask[:, None].float()", "not finite everywhere, padding included"),
        ("        nn.init", "        self.requires_grad_(False)\n        nn.init", "nothing to train: add parameters"),
        ("nn.Linear(42, ", "nn.LazyLinear(", "its lazy layers have no weights before their first input"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused(model_file, old, new, sentence):
    assert old in documented_model()
    model_file.write_text(documented_model().replace(old, new))
    with pytest.raises(ValueError, match=sentence) as error:
        summarize(find_model("pair-net", model_file), length=16)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [1, 2, 33])
def test_the_contract_lets_rounding_and_a_model_to_be_fitted_pass(model_file, length):
    points = "Prediction(torch.cdist(50 + 10 * single, 50 + 10 * single))"
    model_file.write_text(documented_model().replace(PREDICTION, points))
    summarize(find_model("pair-net", model_file), length)
    summarize(ZOO["sepmean"], length)


def test_names(tmp_path, model_file):
    with pytest.raises(ProtcliError, match=r"there is no model file .*nowhere\.py"):
        find_model("psp1", tmp_path / "nowhere.py")
    with pytest.raises(ProtcliError, match=r"no model 'pairnet' \(did you mean pair-net\?\); known: .*psp1.*pair-net"):
        find_model("pairnet", model_file)
    model_file.write_text(documented_model() + "import dataclasses\nb = dataclasses.replace(pair_net, summary='b')\n")
    with pytest.raises(ProtcliError, match="two models are named 'pair-net'"):
        load_model_file(model_file)


def test_entry_points(monkeypatch, tmp_path):
    (tmp_path / "plugin.py").write_text(documented_model())
    monkeypatch.syspath_prepend(tmp_path)
    offered = {"pair-net": "plugin:pair_net", "other": "plugin:pair_net", "config": "plugin:PairNetConfig"}
    offered["gone"] = "no_such_package:model"
    listed = EntryPoints(EntryPoint(*item, external.GROUP) for item in offered.items())
    monkeypatch.setattr(external, "entry_points", lambda **wanted: listed.select(**wanted))
    assert find_model("pair-net").name == "pair-net"
    assert find_model("pair-net").source == (tmp_path / "plugin.py").resolve()
    with pytest.raises(ProtcliError, match=r"pairmix, config, gone, other, pair-net$"):
        find_model("zzz")
    for name, said in (
        ("other", r"other = .*the model there is named 'pair-net'"),
        ("config", r"config = .*expected a ModelSpec, found type"),
        ("gone", r"entry point gone = no_such_package:model: ModuleNotFoundError"),
    ):
        with pytest.raises(ProtcliError, match=said):
            load_entry_point(name)
