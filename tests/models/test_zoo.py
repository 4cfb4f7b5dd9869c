"""What every model of the zoo must do, whatever it is."""

import importlib
import json

import pytest
import torch
import yaml

from protcli.errors import ProtcliError
from protcli.models.zoo import ZOO, config_dict, find_model, with_config
from protcli.proteins.maps import upper_pairs
from protcli.training.losses import find_loss, local_loss

# Trained, and floating-point buffer values: the tables of the studies, with torchvision's ResNet50 in the psp nets.
PARAMETERS = {
    "simple": (66_070_656, 32),
    "improved": (40_897, 0),
    "improved-no-dropout": (40_897, 0),
    "improved-relu": (40_897, 0),
    "psp0": (25_953_729, 53_120),
    "psp1": (25_935_553, 53_120),
}


@pytest.fixture(scope="module", params=list(ZOO))
def spec(request):
    return ZOO[request.param]


@pytest.fixture(scope="module")
def model(spec, ready):
    return ready(spec)


@pytest.mark.parametrize("length", [256, 128, 100])
def test_prediction_is_a_distance_map(model, residues, length):
    model.eval()
    with torch.no_grad():
        distance = model(residues([length, 3 * length // 4], length)).distance
    assert distance.shape == (2, length, length)
    assert distance.dtype == torch.float32
    assert torch.isfinite(distance).all()
    torch.testing.assert_close(distance, distance.mT, rtol=0, atol=0)
    assert (distance.diagonal(dim1=1, dim2=2) == 0).all()


def test_prediction_does_not_depend_on_the_batch(model, residues):
    model.eval()
    both = residues([60, 45], 64)
    alone = type(both)(both.sequence[1:], both.profile[1:], both.mask[1:], both.index[1:])
    with torch.no_grad():
        torch.testing.assert_close(model(both).distance[1:], model(alone).distance, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_predicts_what_a_cpu_does(model, residues, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model.eval()
    batch = residues([60, 45], 64)
    with torch.no_grad():
        here = model(batch).distance
        try:
            there = model.cuda()(batch.to("cuda")).distance.cpu()
        finally:
            model.cpu()
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)


def test_every_parameter_gets_a_gradient(model, spec, batch):
    model.train()
    model.zero_grad(set_to_none=True)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # a layer that begins as none hides those before it
            torch.nn.init.normal_(parameter, std=0.02)
    walks = batch([64, 50], 64)
    target = torch.cdist(walks.coords, walks.coords)
    if spec.is_fitted:
        assert list(model.parameters()) == []
        return
    for _ in range(4 if hasattr(model, "memory") else 1):  # relatives are hidden at random
        prediction, pairs = model(walks.residues), upper_pairs(walks.mask)
        total, _ = find_loss(spec.recipe.loss)(prediction, target, pairs)
        if prediction.local is not None:
            total = total + local_loss(prediction.local, target, pairs, walks.secondary)
        total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_parameter_counts(model, spec):
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    buffers = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    if spec.name in PARAMETERS:
        assert (trained, buffers) == PARAMETERS[spec.name]
    elif spec.name.endswith("-profile"):  # 84 more channels of a 7 x 7 convolution to 64
        plain = PARAMETERS[spec.name.removesuffix("-profile")]
        assert (trained, buffers) == (plain[0] + 84 * 49 * 64, plain[1])


def test_the_studies_are_all_there_and_no_name_twice():
    assert set(PARAMETERS) | {"sepmean", "psp0-profile", "psp1-profile"} <= set(ZOO)
    families = {importlib.import_module(each.network.__module__) for each in ZOO.values()}
    assert sum(len(family.SPECS) for family in families) == len(ZOO)


def test_name_is_its_key_and_config_goes_through_json_and_yaml(spec):
    assert find_model(spec.name) is spec
    assert spec.summary
    for text in (json.loads(json.dumps(config_dict(spec))), yaml.safe_load(yaml.safe_dump(config_dict(spec)))):
        assert with_config(spec, text) == spec


def test_unknown_model_names_the_closest_and_the_known():
    closest = r"'psp1-profil' \(did you mean psp1-profile\?\); known: sepmean, sepmean-length, "
    for name, said in (("psp1-profil", closest), ("zzz", r"'zzz'; known")):
        with pytest.raises(ProtcliError, match=said):
            find_model(name)
