"""What the training loop adds to the bare step of the same network.

The bare step is forward, loss, backward and Adam on a batch that is ready on the device, with its true map. The loop
also reads, crops and pads every batch, moves it to the device, computes the true map and the errors of each protein,
and follows a schedule. They take turns. bare / loop is the share of the bare step's speed that the loop keeps; what the
bare step of a copy keeps, bare / bare again, is 1 but for the machine, and says how sure the others are. On a GPU
the loop gathers batches from proteins that are kept there; the loop that reads makes them on the CPU, ahead of the
step, as for a split that does not fit. The synchronisations that torch's debug mode reports in a step are counted too.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch
from row import Row, Setting
from timing import alternate, ratios
from training_step import bare_step, batches_of, loop, made_up, make_case, make_network

from protcli.models.zoo import find_model
from protcli.proteins.batches import kept_on
from protcli.training.engine import keep_memory

# batch and length: an architecture each
MODELS = {
    "simple": (8, 256),
    "improved": (8, 256),
    "crossattn": (8, 256),
    "psp0": (8, 256),
    "psp1": (8, 256),
    "psp1-profile": (2, 256),
    "psp2": (2, 256),
    "pairmix": (8, 256),
}
STEPS = 2000  # that the loop's epoch lasts: more than are measured


def rows(setting: Setting) -> Iterator[Row]:
    keep_memory()
    models = {"improved": (2, 64), "psp1": (2, 64)} if setting.smallest else MODELS
    for name, (size, length) in models.items():
        network, loss = make_network(name), find_model(name).recipe.loss
        batches = batches_of(made_up(size, length) * STEPS, size, length)
        kept = kept_on(torch.device(setting.device), batches)
        sources = {"loop": kept} if kept is batches else {"loop": kept, "loop that reads": batches}
        ways = {
            way: partial(next, loop(copy.deepcopy(network), source, setting.device, loss_name=loss))
            for way, source in sources.items()
        }
        case = make_case(size, length, setting.device)
        copies = {"bare": network, "bare again": copy.deepcopy(network)}
        bare = {way: bare_step(each, case, loss_name=loss) for way, each in copies.items()}
        times = alternate(bare | ways, setting)
        what = f"{name}, batch {size}, length {length}"
        yield Row.of(f"{what}: bare / bare again", "", ratios(times["bare"], times["bare again"]))
        for way, step in ways.items():
            yield Row.of(f"{what}: step of the {way}", "ms", [1e3 * taken for taken in times[way]])
            yield Row.of(f"{what}: bare / {way}", "", ratios(times["bare"], times[way]), at_least=0.97)
            if setting.device == "cuda":
                yield Row.of(f"{what}: synchronisations a step of the {way}", "", [synchronisations(step, 5)])


def synchronisations(step: Callable[[], object], steps: int) -> float:
    """Those that torch reports, a step."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            step()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught) / steps


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
