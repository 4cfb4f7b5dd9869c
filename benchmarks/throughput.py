"""Samples per second of a training step: contiguous, channels-last, bf16, compiled; and how much of the device that is.

Model FLOP utilisation is that of Chowdhery et al. 2022 (PaLM, appendix B): three times the multiply-adds that are
counted in one forward pass of the batch, two operations each, a second, over what the device can do. That is its data
sheet's figure for dense products in that precision or, of a device that is not listed, that of a matrix product here.
"""

import itertools
from collections.abc import Iterator

import torch
from row import Row, Setting
from timing import alternate, seconds
from torch.utils.flop_counter import FlopCounterMode
from training_step import bare_step, make_case, make_network

from protcli.training.engine import start_engine

MODELS = {
    "simple": 64,
    "improved": 64,
    "crossattn": 32,
    "psp0": 32,
    "psp1": 32,
    "psp1-profile": 16,
    "psp2": 16,
    "pairmix": 8,
}
WAYS = {  # layout, precision, compiled
    "contiguous": (torch.contiguous_format, "32", False),
    "channels-last": (torch.channels_last, "32", False),
    "channels-last, bf16": (torch.channels_last, "bf16", False),
    "channels-last, bf16, compiled": (torch.channels_last, "bf16", True),
}
# TFLOP/s, dense, of NVIDIA's data sheets: in float32 without tensor cores, and in bfloat16
PEAKS = {"H100 PCIe": (51.0, 756.0), "H100": (67.0, 989.0), "H200": (67.0, 989.0), "A100": (19.5, 312.0)}


def rows(setting: Setting) -> Iterator[Row]:
    start_engine(torch.device(setting.device), "32")  # deterministic algorithms, as in training
    length = 64 if setting.smallest else 256
    peaks = {precision: _peak(precision, setting) for precision in ("32", "bf16")}
    for precision, (peak, source) in peaks.items():
        yield Row.of(f"{source}, {precision}", "TFLOP/s", [peak])
    models = {"improved": 2} if setting.smallest else MODELS
    # compiling takes minutes, so all others come first
    for (way, (layout, precision, compiles)), (name, size) in itertools.product(WAYS.items(), models.items()):
        case, model = make_case(size, length, setting.device), make_network(name).to(memory_format=layout)
        model = model.to(setting.device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(case.batch.residues)
        tera = 3 * counter.get_total_flops() / 1e12
        what = f"{name}, batch {size}, length {length}, {way}"
        step = bare_step(model, case, precision)
        if compiles:
            # the smallest form only follows the code, for making machine code of it takes minutes
            model.compile(backend="eager" if setting.smallest else "inductor")
            yield Row.of(f"{what}: first step", "s", [seconds(step, setting.device)])
        if setting.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        times = alternate({way: step}, setting)[way]
        yield Row.of(what, "samples/s", [size / taken for taken in times])
        yield Row.of(f"{what}: model FLOP utilisation", "%", [100 * tera / t / peaks[precision][0] for t in times])
        if setting.device == "cuda":
            yield Row.of(f"{what}: peak memory", "GB", [torch.cuda.max_memory_allocated() / 1e9])
        del case, model, step


def _peak(precision: str, setting: Setting) -> tuple[float, str]:
    """TFLOP/s that the device can do, and where that is from."""
    name = torch.cuda.get_device_name() if setting.device == "cuda" else ""
    for known, peaks in PEAKS.items():
        if known in name:
            return peaks[precision == "bf16"], f"{known} by its data sheet"
    size = 256 if setting.smallest else 2048
    matrix = torch.randn(size, size, device=setting.device, dtype=torch.bfloat16 if precision == "bf16" else None)
    taken = min(alternate({"product": lambda: matrix @ matrix}, setting)["product"])
    return 2 * size**3 / taken / 1e12, f"matrix product of {size} x {size}"


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
