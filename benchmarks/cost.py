"""How the cost grows: of an epoch with the number of proteins, of a step with the length of the chains.

The exponent is the slope of a straight line through the logarithms (least squares): 1 is in proportion to the number of
proteins, 2 to the number of pairs of residues. `simple` and `improved` always compute 256 residues.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from row import Row, Setting
from timing import alternate
from training_step import bare_step, batches_of, loop, made_up, make_case, make_network

from protcli.training.engine import keep_memory
from protcli.training.loop import Epoch, Step

PROTEINS, LENGTHS = (16, 32, 64, 128), (64, 128, 256, 512)
MODELS = ("psp1", "psp1-profile", "pairmix")
EPOCHS = 1000  # more than are measured


def rows(setting: Setting) -> Iterator[Row]:
    keep_memory()
    proteins, lengths, models = ((2, 4), (32, 64), ("psp1",)) if setting.smallest else (PROTEINS, LENGTHS, MODELS)
    name, size = "improved", 2 if setting.smallest else 8
    ways: dict[int, Callable[[], object]] = {
        count: partial(
            _epoch,
            loop(make_network(name), batches_of(made_up(count, 256), size, 256), setting.device, epochs=EPOCHS),
        )
        for count in proteins
    }
    yield from _growth(f"{name}, epoch", "proteins", ways, setting)
    for name in models:
        ways = {
            length: bare_step(make_network(name), make_case(1, length, setting.device)) for length in lengths
        }  # fmt: skip
        yield from _growth(f"{name}, step of one protein", "residues", ways, setting)


def _growth(what: str, of: str, ways: Mapping[int, Callable[[], object]], setting: Setting) -> Iterator[Row]:
    times = alternate({str(size): way for size, way in ways.items()}, setting)
    for size, taken in times.items():
        yield Row.of(f"{what}: {size} {of}", "ms", [1e3 * each for each in taken])
    exponents = [exponent(list(ways), taken) for taken in zip(*times.values(), strict=True)]
    yield Row.of(f"{what}: exponent of the number of {of}", "", exponents)


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log seconds against log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _epoch(events: Iterator[Step | Epoch]) -> None:
    while not isinstance(next(events), Epoch):
        pass


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
