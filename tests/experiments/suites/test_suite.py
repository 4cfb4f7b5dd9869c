"""Suites as data: those that come with protcli, one of the user's own, and what is refused."""

import re
from pathlib import Path

import pytest

from protcli.errors import ProtcliError
from protcli.experiments.suites.suite import Suite, find_suite, read_suite, suite_names


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_is_sound(name: str) -> None:
    suite = find_suite(name)
    assert suite.name == name
    assert suite.question.endswith("?")
    assert suite.seeds >= 3
    for cell in suite.cells:
        cell.spec.build()


def test_attention_is_study_a() -> None:
    suite = find_suite("attention")
    names = ["simple", "improved", "improved-no-dropout", "improved-relu"]
    assert ([cell.name for cell in suite.cells], suite.reference) == (names, "simple")
    assert suite.primary == ("improved", "simple")
    assert (suite.steps, suite.tuned, suite.tuning.trials, suite.seeds) == (640, True, 8, 8)
    # the study's own improvement, from the rows that it printed
    at_25 = suite.published.validation[25]
    improvement = [round(100 * (1 - at_25[name] / at_25["simple"]), 2) for name in names]
    assert improvement == [0, 28.21, 26.97, 25.39]
    last = suite.published.last_five
    assert [round(100 * (1 - last[name] / last["simple"]), 2) for name in names] == [0, 27.78, 26.80, 25.01]


def test_upsampling_is_study_b_at_four_learning_rates() -> None:
    suite = find_suite("upsampling")
    assert {(cell.spec.name, cell.spec.recipe.lr) for cell in suite.cells} == {
        (name, lr) for name in ("psp0", "psp1") for lr in (1e-3, 1e-4, 1e-5, 1e-6)
    }
    assert (suite.primary, suite.steps) == (("psp1, lr 0.001", "psp0, lr 0.001"), 2500)
    assert len({(cell.spec.recipe.batch_size, cell.spec.recipe.crop) for cell in suite.cells}) == 1
    at_5 = suite.published.validation[5]
    assert round(100 * (1 - at_5["psp1, lr 1e-06"] / at_5["psp0, lr 1e-06"])) == 75


def test_gaps_vary_the_kernel_and_the_stride_apart_and_inputs_nothing_else() -> None:
    cells = find_suite("gaps").cells
    assert [cell.spec.config.tail for cell in cells] == [
        *("transposed", "transposed-k8", "transposed-k16", "transposed-2-2-1-1-8", "transposed-2-2-2-2-2", "nearest")
    ]
    assert {(cell.spec.config.inputs, cell.spec.config.dropout) for cell in cells} == {("separation", 0.0)}
    weights = [sum(p.numel() for p in cell.spec.build().parameters()) for cell in cells[3:5]]
    assert weights[0] == weights[1]
    others = find_suite("inputs").cells
    assert [cell.spec.config.inputs for cell in others] == ["separation", "one-hot", "profile", "both"]
    assert len({(cell.spec.config.tail, cell.spec.config.dropout) for cell in others}) == 1
    assert [len({cell.spec.recipe for cell in each}) for each in (cells, others)] == [1, 1]


def test_factors_may_be_models_and_settings_of_the_recipe() -> None:
    text = """
question: Which?
reference: sepmean
factorial: {factors: {model: [psp0, psp1], lr: [0.1, 0.01], dropout: [0.5]}, recipe: {epochs: 2, lr: 7}}
cells: [{model: sepmean}]
"""
    suite = read_suite("s", text, "s", Path())
    cells = suite.cells[1:]
    expected = [("psp0", 0.1), ("psp0", 0.01), ("psp1", 0.1), ("psp1", 0.01)]
    assert [cell.name for cell in cells] == [f"{model}, lr {lr}, dropout 0.5" for model, lr in expected]
    assert [(cell.spec.name, cell.spec.recipe.lr) for cell in cells] == expected
    assert {(cell.spec.config.dropout, cell.spec.recipe.epochs) for cell in cells} == {(0.5, 2)}
    assert suite.levels["psp0, lr 0.1, dropout 0.5"] == {"model": "psp0", "lr": 0.1, "dropout": 0.5}
    assert suite.levels["sepmean"] == {}


GRID = "factorial: {model: tiny, file: my_model.py, factors: {dropout: "
OWN = """
question: Does a smaller step help?
reference: tiny
seeds: 3
recipe: {epochs: 2}
cells:
  - {model: tiny, file: my_model.py}
  - {name: slow, model: tiny, file: my_model.py, set: {dropout: 0}, recipe: {lr: 1e-3}}
"""


def test_the_documented_suite(tmp_path: Path) -> None:
    docs = Path(__file__).parents[3] / "docs"
    for page, language, name in (("own-model.md", "python", "my_model.py"), ("own-suite.md", "yaml", "channels.yaml")):
        (text,) = re.findall(rf"```{language}\n(.*?)```", (docs / page).read_text(encoding="utf-8"), flags=re.DOTALL)
        (tmp_path / name).write_text(text, encoding="utf-8")
    suite = find_suite(str(tmp_path / "channels.yaml"))
    pairs = [f"channels {channels}, blocks {blocks}" for channels in (16, 32) for blocks in (2, 4)]
    assert [cell.name for cell in suite.cells] == ["psp1", "psp1-slow", *pairs]
    assert {(cell.spec.recipe.epochs, cell.spec.recipe.crop) for cell in suite.cells} == {(5, 128)}
    assert [cell.spec.recipe.lr for cell in suite.cells[:3]] == [1e-3, 3e-4, 1e-3]
    assert (suite.pairs, suite.figures) == ((("channels 32, blocks 4", "psp1-slow"),), ("mse", "epochs", "maps"))


def test_a_track_takes_models_of_ones_own_by_one_option(tiny_model: Path) -> None:
    track, joined = find_suite("track-20k"), find_suite("track-20k", tiny_model)
    counts = {(cell.spec.is_fitted, cell.spec.recipe.epochs, cell.spec.recipe.epoch_samples) for cell in joined.cells}
    assert counts == {(False, 20, 1000), (True, 1, None)}
    assert joined.makeup[:-1] == track.makeup
    assert (joined.cells[-1].name, joined.cells[-1].model_file) == ("tiny", tiny_model)
    assert read_suite("track-20k", joined.source, "as kept with its run", Path()).makeup == joined.makeup
    with pytest.raises(ProtcliError, match="its file decides that of suite track-20k: leave out --epochs"):
        track.with_recipe(epochs=3)
    with pytest.raises(ProtcliError, match=r"own\.yaml is your own suite: name your model among its cells"):
        find_suite(str(tiny_model.with_name("own.yaml")), tiny_model)


def own(tiny_model: Path, text: str = OWN) -> Suite:
    path = tiny_model.parent / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return find_suite(str(path))


def test_the_command_line_changes_every_recipe_but_a_baselines_epochs() -> None:
    text = "question: q?\nreference: psp0\ncells: [{model: psp0}, {model: sepmean}]"
    suite = read_suite("x", text, "x", Path()).with_recipe(epochs=7, crop=64, batch_size=None)
    psp0, sepmean = suite.cells
    assert (psp0.spec.recipe.epochs, psp0.spec.recipe.crop, psp0.spec.recipe.batch_size) == (7, 64, 8)
    assert (sepmean.spec.recipe.epochs, sepmean.spec.recipe.crop) == (1, 64)
    with pytest.raises(ProtcliError, match="--epochs is 0"):
        _ = suite.with_recipe(epochs=0).cells[0].spec
    in_the_file = read_suite("x", text + "\nrecipe: {epochs: 7, crop: 64}", "x", Path())
    assert [cell.spec.recipe for cell in in_the_file.cells] == [psp0.spec.recipe, sepmean.spec.recipe]
    with pytest.raises(ProtcliError, match="sepmean is fitted in one pass"):
        read_suite("x", text.replace("sepmean}", "sepmean, recipe: {epochs: 7}}"), "x", Path())
    with pytest.raises(ProtcliError, match=r"expected the settings question, .*, found nothing"):
        read_suite("x", "", "x", Path())


WRONG = [
    ("reference: tiny", "reference: tinny", "the reference 'tinny' is not one of its cells: tiny, slow"),
    ("seeds: 3", "pairs: [[tiny, slo]]", "pairs: ['tiny', 'slo'] is not a pair of its cells: tiny, slow"),
    ("seeds: 3", "pairs: [tiny, slow]", "pairs[0] must be list of 2: str, str, not 'tiny'"),
    ("seeds: 3", "pairs: [[slow, slow]]", "pairs: ['slow', 'slow'] is not a pair of its cells"),
    ("seeds: 3", "figures: [rmse]", "is not one of mse, epochs, maps, separation, length"),
    ("seeds: 3", "primary: [tiny, slo]", "primary: ['tiny', 'slo'] is not a pair of its cells: tiny, slow"),
    ("seeds: 3", "seeds: 5\nlooks: [3, 5]", "looks: are at the primary comparison, so name it with `primary:"),
    *(
        ("seeds: 3", f"seeds: 5\nprimary: [tiny, slow]\nlooks: {looks}",
         f"looks: give ascending numbers of seeds from 3 on, the last of them 5 (`seeds`), not {looks}")
        for looks in ([2, 5], [5, 3], [3, 3, 5], [3, 4])
    ),
    ("seeds: 3", "equal_within: 0", "equal_within: give per cent between 0 and 100, not 0"),
    ("seeds: 3", "factorial: {factors: {lr: [1, 2]}}", "factorial: name the model with `model: NAME`, or make"),
    ("seeds: 3", "factorial: {model: psp1, factors: {lr: [fast]}}", "factorial: lr must be float, not 'fast'"),
    ("seeds: 3", "factorial: {factors: {model: [psp1, psp9]}}", "factorial: there is no model 'psp9'"),
    ("seeds: 3", "seeds: 0", "seeds: give 1 or more"),
    ("seeds: 3", "seeds: 1000000000000", "seeds: give 1 or more, and at most 1,000"),
    ("seeds: 3", GRID + str(list(range(1000))) + "}}", "it has 1,002 cells"),
    ("seeds: 3", "seeds: true", "seeds must be int, not True"),
    ("seeds: 3", "seeds: 3\nseeds: 4", "seeds is named twice (line 5)"),
    ("set: {dropout: 0}, recipe: {lr: 1e-3}", "recipe: {epochs: 2}",
     "tiny and slow are the same model with the same settings and recipe"),
    ("name: slow, model", "name: slow, modle", "unknown setting cells[1].modle (did you mean model?): expected"),
    ("lr: 1e-3", "epoch: 3", "unknown setting cells[1].recipe.epoch (did you mean epochs?): expected epochs, batch"),
    ("seeds: 3", GRID + "[0]}, fil: x}", "unknown setting factorial.fil (did you mean file?): expected model"),
    ("{model: tiny, file: my_model.py}", "tiny", "cells[0]: expected the settings model, name, file, set, recipe"),
    ("name: slow", "name: tiny", "two cells are named tiny: give one"),
    ("model: tiny, file: my_model.py}", "model: pps1}", "did you mean psp1"),
    ("dropout: 0", "droput: 0", "cells[1]: tiny has no setting 'droput' (did you mean dropout?)"),
    ("epochs: 2", "epochs: 0", "--epochs is 0"),
    ("cells:", "cells: [", "not a YAML file"),
    ("seeds: 3", "steps: 0", "steps: give 1 or more"),
    ("seeds: 3", "tuning: {trials: 0}", "tuning: trials is 0"),
    ("seeds: 3", "tuning: {trial: 2}", "unknown setting tuning.trial (did you mean trials"),
    ("recipe: {epochs: 2}", "steps: 9\ntuning: {steps: [5, 9]}", "tuning.steps: the suite's own steps"),
    ("seeds: 3", "steps: 9", "steps decide the epochs"),
    *(
        ("seeds: 3", f"samples: {samples}", f"samples: give a multiple of 20, such as 20000, not {samples}")
        for samples in (0, -20, 7, 30)
    ),
    ("seeds: 3", "samples: 40", "cells[0]: the suite's samples decide the epochs: leave that out of the recipes"),
    ("recipe: {epochs: 2}", "samples: 40\nrecipe: {epoch_samples: 1}", "samples decide the epoch_samples: leave that"),
    ("recipe: {epochs: 2}", "samples: 40\nsteps: 9", "samples decide how long it trains: leave out steps"),
    ("recipe: {epochs: 2}", "samples: 40\ntuned: true", "samples decide how long it trains: leave out tuned"),
    *(
        ("seeds: 3", f"learning_curve: {{cells: {cells}}}", f"learning_curve.cells: {sentence}")
        for cells, sentence in (
            ("[tiny]", "['tiny'] are not two or more of its cells: tiny, slow"),
            ("[tiny, thirds]", "['tiny', 'thirds'] are not two or more of its cells"),
            ("[tiny, slow]", "must differ in the recipe's train_share, and in nothing else"),
        )
    ),
    ("set: {dropout: 0}, recipe: {lr: 1e-3}}",
     "recipe: {train_share: 0.5}}\nlearning_curve: {cells: [tiny, slow], target: 0}",
     "learning_curve.target: give a ratio to sepmean's MSE above 0"),
    ("seeds: 3", GRID + "8}}", "factorial.factors.dropout must be a list, not 8"),
    ("seeds: 3", GRID + "[]}}", "factorial.factors.dropout is empty: give a list, such as [1, 2]"),
    *(
        ("seeds: 3", f"published: {{unit: mse, validation: {published}}}", sentence)
        for published, sentence in (
            ("{2: {tiny: x}}", "published.validation.2.tiny must be float, not 'x'"),
            ("{2: {tiny: .nan}}", "2.tiny must be float, not nan"),
            ("{2: {tinny: 1}}", "'tinny' is not one of the cells tiny, slow"),
        )
    ),
    ("seeds: 3", "published: {unit: rmse, validation: {}}", "published.unit must be one of legacy_sse_pm2, mse"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG, ids=lambda value: value[:50])
def test_what_is_wrong_in_a_suite_is_one_sentence(tiny_model: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(ProtcliError) as caught:
        own(tiny_model, OWN.replace(old, new, 1))
    assert sentence in str(caught.value)
    assert "own.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).removeprefix(str(tiny_model.parent))) < 300


def test_a_suite_of_ones_own(tiny_model: Path) -> None:
    """Levels are numbers as people write them; a mapping may be written once and changed."""
    suite = own(tiny_model, OWN.replace("seeds: 3", "seeds: 3\n" + GRID + "[1e-3, 2E-1, 0]}}"))
    assert (suite.name, suite.seeds, suite.factors) == ("own", 3, {"dropout": (1e-3, 0.2, 0)})
    found = [
        (each.name, each.spec.recipe.epochs, each.spec.recipe.lr, each.spec.config.dropout) for each in suite.cells
    ]
    assert found[:2] == [("tiny", 2, 1e-2, 0.1), ("slow", 2, 1e-3, 0.0)]
    levels = [("dropout 0.001", 1e-3), ("dropout 0.2", 0.2), ("dropout 0", 0.0)]
    assert found[2:] == [(name, 2, 1e-2, dropout) for name, dropout in levels]
    shared = "{name: slow, model: tiny, file: my_model.py, set: {dropout: 0}, recipe: {lr: 1e-3}}"
    text = f"&slow {shared}\n  - {{<<: *slow, name: slower, recipe: {{lr: 1e-4}}}}"
    suite = own(tiny_model, OWN.replace(shared, text))
    assert [cell.spec.recipe.lr for cell in suite.cells] == [1e-2, 1e-3, 1e-4]


def test_an_unknown_suite(tmp_path: Path) -> None:
    with pytest.raises(ProtcliError, match=r"no suite 'atention': choose attention, flagship, .*, upsampling"):
        find_suite("atention")
    with pytest.raises(ProtcliError, match=r"cannot read .*gone\.yaml: No such file"):
        find_suite("gone.yaml")
    (tmp_path / "a b'.yaml").write_text(OWN)
    with pytest.raises(ProtcliError, match="letters, digits"):
        find_suite("a b'.yaml")
