"""Evaluation and the fitting of sepmean against a plain copy of as many maps in memory.

Each takes the same batches, which are ready: `validation` is what the loop measures after each epoch, `all metrics`
what `protcli evaluate` measures, both of sepmean, whose own pass is next to nothing. A copy reads and writes each
float32 map once; they read coordinates, and must compute the maps first.
"""

from collections.abc import Callable, Iterator

import torch
from row import Row, Setting
from timing import alternate, ratios
from training_step import Repeated, batches_of, made_up

from protcli.experiments.scores import score
from protcli.models.zoo import find_model
from protcli.training.engine import keep_memory
from protcli.training.loop import evaluate


def rows(setting: Setting) -> Iterator[Row]:
    keep_memory()
    count, length = (4, 64) if setting.smallest else (64, 256)
    device = torch.device(setting.device)
    batches = Repeated([each.to(device) for each in batches_of(made_up(count, length), 8, length).epoch()], 1)
    sepmean = find_model("sepmean").build().to(device)
    maps = torch.zeros(count, length, length, device=device)
    copy = torch.empty_like(maps)
    ways: dict[str, Callable[[], object]] = {
        "copy": lambda: copy.copy_(maps),
        "fitting sepmean": lambda: sepmean.fit(batches.epoch()),
        "validation": lambda: evaluate(sepmean, batches, device),
        "all metrics": lambda: score([sepmean], batches, device),
    }
    ways["fitting sepmean"]()
    times = alternate(ways, setting)
    megabytes = maps.numel() * maps.element_size() / 1e6
    yield Row.of(f"copy of {count} maps of {length} x {length}", "MB/s", [megabytes / each for each in times["copy"]])
    for name in list(ways)[1:]:
        yield Row.of(name, "proteins/s", [count / each for each in times[name]])
        yield Row.of(f"{name} / copy of the maps", "", ratios(times[name], times["copy"]))


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
