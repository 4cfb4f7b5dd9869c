"""The training step against the studies' own stack: the same four nets in Keras on TensorFlow, with the same loss.

Both do forward, masked squared error of the distance map, backward and Adam on the same batch, which is ready; they
take turns in one process with as many threads each. Keras is its faster way, with XLA or without; psp0 and psp1 are
without, for there XLA is slower and takes minutes to compile. Keras computes these two once for each protein, protcli
once for each batch, because their input is the same for every protein: a batch of one shows psp1 without that. Keras
without the distance map ends in the points, and its loss is on those. torch is imported before TensorFlow: the other
way round, some of their releases crash.
"""

import os
from collections.abc import Callable, Iterator

from row import LeftOut, Row, Setting
from timing import alternate, ratios, seconds
from training_step import Case, bare_step, make_case, make_network

from protcli.proteins.maps import separation
from protcli.training.engine import keep_memory

LENGTH = 256
BATCHES = {"simple": (16,), "improved": (16,), "psp0": (10,), "psp1": (10, 1)}
GOAL = 1.5


def rows(setting: Setting) -> Iterator[Row]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import keras_nets
        import tensorflow

        tensorflow.get_logger().setLevel("ERROR")  # it takes the many nets for one net compiled often
    except ImportError as error:
        raise LeftOut(f"{error.name} is not installed: pip install -e '.[bench]'") from None
    if setting.device == "cuda" and not tensorflow.config.list_physical_devices("GPU"):
        raise LeftOut("TensorFlow sees no GPU")
    keep_memory()
    for name in ("improved",) if setting.smallest else BATCHES:
        for size in (2,) if setting.smallest else BATCHES[name]:
            case = make_case(size, LENGTH, setting.device)
            ways: dict[str, Callable[[], object]] = {"protcli": bare_step(make_network(name), case)}
            ways["keras"] = _fastest(keras_nets.NETS[name], name, case, setting)
            if name in ("simple", "improved"):
                ways["keras on points"] = _fastest(
                    lambda name=name: keras_nets.NETS[name](ends_in_map=False), name, case, setting, on_points=True
                )
            times = alternate(ways, setting)
            what = f"{name}, batch {size}"
            yield Row.of(f"{what}: step of protcli", "ms", [1e3 * taken for taken in times["protcli"]])
            yield Row.of(f"{what}: Keras / protcli", "", ratios(times["keras"], times["protcli"]), at_least=GOAL)
            if "keras on points" in times:
                yield Row.of(
                    f"{what}: Keras without the distance map / protcli with it", "",
                    ratios(times["keras on points"], times["protcli"]),
                )  # fmt: skip


def _fastest(
    build: Callable[[], object], name: str, case: Case, setting: Setting, *, on_points: bool = False
) -> Callable[[], object]:
    """Keras' training step, with XLA or without, whichever is faster here."""
    import keras_nets

    inputs, target = arrays(name, case, on_points=on_points)
    steps = []
    for xla in (False,) if setting.smallest or name.startswith("psp") else (False, True):
        net = keras_nets.compiled(build(), xla=xla)
        steps.append(lambda net=net: net.train_on_batch(inputs, target))
    if len(steps) == 1:
        return steps[0]
    for step in steps:
        step()  # compiles
    return min(steps, key=lambda step: min(seconds(step) for _ in range(2)))


def arrays(name: str, case: Case, *, on_points: bool = False) -> tuple[object, object]:
    """Inputs and target of a Keras net as TensorFlow's tensors; what is not counted is NaN in the target."""
    import tensorflow

    batch = case.batch
    if on_points:
        target = batch.coords.masked_fill(~batch.mask[..., None], float("nan"))
    else:
        target = case.true.masked_fill(~case.pairs, float("nan"))
    if name in ("simple", "improved"):
        inputs = [batch.residues.one_hot(), batch.residues.profile]
    else:
        inputs = [separation(LENGTH).float().expand(len(batch), -1, -1)[..., None]]
    tensors = [tensorflow.constant(each.cpu().numpy()) for each in (*inputs, target)]
    return (tensors[:-1] if len(inputs) > 1 else tensors[0]), tensors[-1]


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
