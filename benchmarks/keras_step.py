"""The training step against the studies' own stack: the same four nets in Keras on TensorFlow, with the same loss.

Both do forward, masked squared error of the distance map, backward and Adam on the same batch, which is ready; they
take turns in a process each, with as many threads. Keras compiles as it does by default, which is without XLA where
there is only a CPU; with XLA stands beside it for the nets where that does not take minutes. Keras computes psp0 and
psp1 once for each protein, protcli once for each batch, because their input is the same for every protein: a batch of
one shows psp1 without that. Keras without the distance map ends in the points, and its loss is on those.

Some releases of Triton, which torch loads, crash if TensorFlow is there already, so protcli is imported first.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
from row import LeftOut, Row, Setting
from timing import alternate, elsewhere, in_fresh_process, ratios
from training_step import Case, bare_step, make_case, make_network

from protcli.proteins.maps import separation
from protcli.training.engine import keep_memory

LENGTH = 256
STUDY_A = ("simple", "improved")
BATCHES = {"simple": (16,), "improved": (16,), "psp0": (10,), "psp1": (10, 1)}
GOAL = 1.5


def rows(setting: Setting) -> Iterator[Row]:
    """Raises LeftOut where there is no TensorFlow, or none for the device."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    in_fresh_process(check, setting.device)
    for name in ("improved",) if setting.smallest else BATCHES:
        for size in (2,) if setting.smallest else BATCHES[name]:
            made = {"protcli": (ours, name, size, setting.device), "Keras": (theirs, name, size)}
            if name in STUDY_A:
                made["Keras with XLA"] = (theirs, name, size, True)
                made["Keras without the distance map"] = (theirs, name, size, "auto", False)
            with ExitStack() as stack:
                ways = {way: stack.enter_context(elsewhere(*how)) for way, how in made.items()}
                times = alternate(ways, replace(setting, device="cpu"))
            what = f"{name}, batch {size}"
            yield Row.of(f"{what}: step of protcli", "ms", [1e3 * taken for taken in times["protcli"]])
            for way in list(ways)[1:]:
                goal = GOAL if way == "Keras" else None
                yield Row.of(f"{what}: {way} / protcli", "", ratios(times[way], times["protcli"]), at_least=goal)


def check(device: str) -> None:
    """See `rows`."""
    try:
        import tensorflow
    except ImportError as error:
        raise LeftOut(f"{error.name} is not installed: pip install -e '.[bench]'") from None
    if device == "cuda" and not tensorflow.config.list_physical_devices("GPU"):
        raise LeftOut("TensorFlow sees no GPU")


def ours(name: str, size: int, device: str) -> Callable[[], object]:
    """protcli's training step at each call."""
    keep_memory()
    step = bare_step(make_network(name), make_case(size, LENGTH, device))

    def finished() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    return finished


def theirs(name: str, size: int, xla: bool | str = "auto", ends_in_map: bool = True) -> Callable[[], object]:
    """Keras' own training step at each call."""
    import keras_nets

    keep_memory()
    build = keras_nets.NETS[name]
    net = keras_nets.compiled(build() if ends_in_map else build(ends_in_map=False), xla=xla)
    return partial(net.train_on_batch, *arrays(name, make_case(size, LENGTH, "cpu"), on_points=not ends_in_map))


def arrays(name: str, case: Case, *, on_points: bool = False) -> tuple[object, object]:
    """Inputs and target of a Keras net as TensorFlow's tensors; what is not counted is NaN in the target."""
    import tensorflow

    batch = case.batch
    if on_points:
        target = batch.coords.masked_fill(~batch.mask[..., None], float("nan"))
    else:
        target = case.true.masked_fill(~case.pairs, float("nan"))
    if name in STUDY_A:
        inputs = [batch.residues.one_hot(), batch.residues.profile]
    else:
        inputs = [separation(LENGTH).float().expand(len(batch), -1, -1)[..., None]]
    tensors = [tensorflow.constant(each.cpu().numpy()) for each in (*inputs, target)]
    return (tensors[:-1] if len(inputs) > 1 else tensors[0]), tensors[-1]


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
