"""What a run leaves in MLflow: parameters, a note, figures per epoch, tables and pictures."""

import csv
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from protcli import __version__
from protcli.atomic import atomic_write
from protcli.experiments.runs.config import RunConfig
from protcli.figures.curves import draw_loss_curve
from protcli.figures.maps import MapPair, draw_gallery
from protcli.models.external import source_file
from protcli.models.summary import ModelSummary
from protcli.models.zoo import config_dict
from protcli.proteins.batches import collate
from protcli.proteins.dataset import Dataset
from protcli.proteins.maps import distances, pair_mask
from protcli.proteins.metrics import PairErrors
from protcli.proteins.store import Split
from protcli.tracking.runs import RunLog
from protcli.training.engine import peak_memory
from protcli.training.loop import Epoch

CONFIG_FILE, MODEL_FILE = "config.yaml", "model.py"
GALLERY = 4  # proteins on a page of maps
PACKAGES = ("torch", "torchvision", "mlflow", "lightning-fabric", "numpy", "pyarrow")


def describe(
    run: RunLog, folder: Path, config: RunConfig, data: Dataset, device: torch.device, summary: ModelSummary
) -> None:
    """Say everything that is known before the first epoch: parameters, data sets, the configuration, the layers."""
    run.params(_parameters(config, data, device, summary))
    for split, context in ((data.train, "training"), (data.valid, "validation")):
        run.dataset(
            f"{data.store.name}/{split.name}",
            digest=split.digest,
            source=config.data,
            context=context,
            profile={
                "proteins": len(split),
                "residues": int(split.lengths.sum()),
                "atom": data.atom,
                "crop": data.crop,
            },
        )
    stored = config
    if source := source_file(config.spec):
        (folder / MODEL_FILE).write_bytes(source.read_bytes())
        stored = config.with_model_file(Path(MODEL_FILE))
    (folder / CONFIG_FILE).write_text(stored.to_yaml(), encoding="utf-8")
    (folder / "layers.txt").write_text(summary.to_text() + "\n", encoding="utf-8")


def log_epoch(run: RunLog, epoch: Epoch, best: Epoch, sepmean: PairErrors, device: torch.device) -> None:
    """The figures of one epoch, and the best so far under its own name (MLflow shows a run's last values)."""
    run.metrics(
        {
            "train/mse": epoch.train.mse,
            "train/loss": epoch.loss,
            "train/lr": epoch.lr,
            "train/seconds": epoch.seconds,
            "train/samples_per_second": epoch.samples_per_second,
            "train/peak_memory_gb": peak_memory(device) / 1e9,
            **baseline_metrics("valid/", epoch.valid, sepmean),
            "best/valid_mse": best.valid.mse,
            "best/valid_mse_over_sepmean": best.valid.mse / sepmean.mse,
            "best/epoch": best.number,
        },
        step=epoch.number,
    )


def baseline_metrics(prefix: str, errors: PairErrors, sepmean: PairErrors) -> dict[str, float]:
    """The metrics of a split by name (`valid/` + `mse`), sepmean's MSE on the same proteins beside them."""
    return {
        f"{prefix}mse": errors.mse,
        f"{prefix}rmse": errors.rmse,
        f"{prefix}mae": errors.mae,
        f"{prefix}legacy_sse_pm2": errors.legacy_sse_pm2,
        f"{prefix}mse_sepmean": sepmean.mse,
        f"{prefix}mse_over_sepmean": errors.mse / sepmean.mse,
    }


def write_note(run: RunLog, config: RunConfig, data: Dataset, best: Epoch, sepmean: PairErrors) -> None:
    """The run's page in the UI, in words."""
    recipe, ratio = config.spec.recipe, best.valid.mse / sepmean.mse
    verdict = "better than" if ratio < 1 else "not better than"
    synthetic = " (**synthetic** proteins: good for trying things out, not for claims)" if data.store.synthetic else ""
    trained = (
        f"Trained with {recipe.optimizer}, learning rate {recipe.lr:g} ({recipe.schedule}), batch "
        f"{recipe.batch_size * recipe.accumulate}, loss {recipe.loss}, seed {config.seed} (of Python, NumPy, torch, "
        "data order and crops)."
    )
    if config.spec.is_fitted:
        trained = "Fitted in one pass."
    # the page breaks a line where the text does: a paragraph is one line
    paragraphs = (
        f"# {config.spec.name}, seed {config.seed}",
        config.spec.summary,
        f"**Best validation MSE {best.valid.mse:.2f} Å²** (RMSE {best.valid.rmse:.2f} Å, MAE {best.valid.mae:.2f} Å) "
        f"at epoch {best.number} of {recipe.epochs}: {ratio:.3f} of what `sepmean`, the mean distance at each "
        f"separation, scores on the same pairs ({sepmean.mse:.2f} Å²): {verdict} that baseline.",
        f"Data: `{data.store.name}`{synthetic}, trained on {len(data.train)} proteins of `{data.train.name}`, chosen "
        f"by {len(data.valid)} of `{data.valid.name}`; atom {data.atom.upper()}, crop {data.crop}. Digest of all this: "
        f"`{data.digest}`.",
        trained,
        f"The model's own recipe: {recipe.note}",
        "Distances between residues in Å; errors pooled over resolved pairs i < j. `legacy_sse_pm2` is the sum over "
        "the full map in pm², mean over proteins, as two earlier studies reported it.",
        f"Again: `protcli train --config {CONFIG_FILE}` (from this run's artifacts). Measure: "
        f"`protcli evaluate --run-id {run.id} --split valid`.",
    )
    run.note("\n\n".join(paragraphs))


def draw_results(
    folder: Path,
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    history: list[Epoch],
    best: Epoch,
    sepmean: PairErrors,
) -> None:
    """The run's pictures and its table of validation proteins; `model` has its best weights."""
    title = f"{config.spec.name}, seed {config.seed}, {data.store.name}, {data.atom.upper()}"
    draw_loss_curve(
        folder / "loss.png",
        title=title,
        train_mse=[epoch.train.mse for epoch in history],
        valid_mse=[epoch.valid.mse for epoch in history],
        sepmean_mse=sepmean.mse,
        best=best.number,
    )
    write_protein_table(folder / "validation_proteins.csv", data.valid, best.valid, sepmean, data.atom)
    order = np.argsort(best.valid.protein_mse)  # NaN, a protein without a pair, comes last
    order = order[: int(np.isfinite(best.valid.protein_mse).sum())]
    ends = min(len(order), GALLERY) // 2 or 1
    pages = {
        "gallery.png": (list(range(min(GALLERY, len(data.valid)))), "the first proteins of validation"),
        "best_and_worst.png": ([*order[:ends], *order[-ends:]], "best and worst proteins of validation"),
    }
    for name, (chosen, what) in pages.items():
        maps = [predict_maps(model, data.valid, int(index), data, device) for index in chosen]
        draw_gallery(folder / name, maps, title=f"{title}: {what}")


@torch.inference_mode()
def predict_maps(model: nn.Module, split: Split, index: int, data: Dataset, device: torch.device) -> MapPair:
    """True and predicted map of one protein, cut to its length."""
    model.eval()
    protein = split[index]
    batch = collate([protein], atom=data.atom, crop=data.crop).to(device)
    length = min(len(protein), data.crop)
    true = distances(batch.coords).masked_fill(~pair_mask(batch.mask), torch.nan)[0, :length, :length]
    predicted = model(batch.residues).distance.float()
    errors = PairErrors.of(predicted, batch.coords, batch.mask)
    title = f"{protein.id}, {len(protein)} residues, RMSE {errors.rmse:.1f} Å"
    return MapPair(title, true.cpu().numpy(), predicted[0, :length, :length].cpu().numpy())


def write_protein_table(
    path: Path,
    split: Split,
    errors: PairErrors,
    sepmean: PairErrors,
    atom: str,
    further: Mapping[str, np.ndarray] | None = None,
) -> None:
    """A CSV with a row a protein, in the order of the split, from whose sums all pooled errors follow to the bit.

    Lengths and resolved residues are those of the whole chain, everything else is of its first `crop` residues, in A
    and A^2. A field is empty where a protein does not have the quantity, as mean errors without a resolved pair.

    Args:
        path: of the file.
        split: the proteins.
        errors, sepmean: of the model and of the baseline, on all of them.
        atom: the one that distances are taken between.
        further: columns [N] by heading.
    """
    columns = {
        "pairs": errors.count,
        "squared": errors.squared,
        "absolute": errors.absolute,
        "mse": errors.protein_mse,
        "rmse": errors.protein_mse**0.5,
        "mae": errors.protein_mae,
        "sepmean_squared": sepmean.squared,
        "sepmean_absolute": sepmean.absolute,
        "sepmean_mse": sepmean.protein_mse,
        **(further or {}),
    }
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "class", "length", "resolved", *columns])
        for protein, *figures in zip(split, *(column.tolist() for column in columns.values()), strict=True):
            rows.writerow(
                [protein.id, protein.category, len(protein), int(protein.resolved(atom).sum())]
                + [figure if np.isfinite(figure) else "" for figure in figures]
            )


def _parameters(config: RunConfig, data: Dataset, device: torch.device, summary: ModelSummary) -> dict[str, Any]:
    recipe = {key: value for key, value in asdict(config.spec.recipe).items() if key != "note"}
    return {
        "model": config.spec.name,
        **{f"model.{key}": value for key, value in config_dict(config.spec).items()},
        "model.parameters": summary.parameters,
        "model.gmac": f"{summary.gmac:.3f}",
        **{f"recipe.{key}": value for key, value in recipe.items()},
        "data.name": data.store.name,
        "data.source": config.data,
        "data.synthetic": data.store.synthetic,
        "data.digest": data.digest,
        "data.atom": data.atom,
        "data.train_split": data.train.name,
        "data.train_digest": data.train.digest,
        "data.train_proteins": len(data.train),
        "data.valid_split": data.valid.name,
        "data.valid_digest": data.valid.digest,
        "data.valid_proteins": len(data.valid),
        "run.seed": config.seed,  # of Python, NumPy, torch, data order and crops alike
        "run.precision": config.precision,
        "run.device": device,
        "run.device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "run.threads": torch.get_num_threads(),
        "run.git_commit": git_commit(),
        "version.protcli": __version__,
        "version.python": platform.python_version(),
        **{f"version.{package}": version(package) for package in PACKAGES},
    }


def git_commit() -> str:
    """The commit of the protcli that runs, with `-dirty` where its files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        # `--error-unmatch` keeps a protcli that is installed inside somebody else's checkout from naming its commit
        for command in (["ls-files", "--error-unmatch", __file__], ["describe", "--always", "--dirty", "--abbrev=40"]):
            answer = subprocess.run(
                ["git", "-C", str(here), *command], capture_output=True, text=True, check=True, env=environment
            )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()
