"""What a run records in MLflow: parameters, a note, metrics per epoch, tables and pictures."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from protcli.atomic import atomic_write, write_whole
from protcli.experiments.config import RunConfig
from protcli.experiments.scores import (
    SEPMEAN,
    beside_sepmean,
    best_and_worst,
    calibrate,
    protein_table,
    write_epochs,
    write_table,
)
from protcli.models.summary import ModelSummary
from protcli.proteins.dataset import Dataset
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import File, Metric, Param
from protcli.tracking.run import Run
from protcli.training.engine import peak_memory
from protcli.training.loop import Epoch
from protcli.training.state import Best, EpochErrors

GALLERY = 4  # proteins on a page of maps

log = logging.getLogger("protcli")


@dataclass(frozen=True)
class Record:
    """Writes to one training run.

    Attributes:
        run: in MLflow.
        folder: its files are the run's artifacts.
        config, data, device: the run's configuration, its data, and the device it is trained on.
        sepmean: the baseline's errors on validation.
        proteins: how many the model is trained on.
    """

    run: Run
    folder: Path
    config: RunConfig
    data: Dataset
    device: torch.device
    sepmean: PairErrors
    proteins: int

    def describe(self, summary: ModelSummary, steps: int) -> None:
        """Record what is known before the first epoch: parameters, data sets, layers, configuration."""
        config, data = self.config, self.data
        self.run.log_params(self._parameters(summary, steps))
        for split, context in ((data.train, "training"), (data.valid, "validation")):
            self.run.log_dataset(
                f"{data.store.name}/{split.name}",
                digest=split.digest,
                source=config.data.source,
                context=context,
                profile={
                    "proteins": len(split),
                    "residues": int(split.lengths.sum()),
                    "atom": data.atom,
                    "evaluated_length": data.evaluated_length,
                },
            )
        write_whole(self.folder / File.LAYERS, summary.to_text() + "\n")
        stored = config
        if source := config.spec.source:
            with atomic_write(self.folder / File.MODEL) as partial:
                shutil.copyfile(source, partial)
            stored = config.with_model_file(Path(File.MODEL))
        # last: once it is there, the run can be resumed
        write_whole(self.folder / File.CONFIG, stored.to_yaml())

    def _parameters(self, summary: ModelSummary, steps: int) -> dict[str, Any]:
        """The run's settings, and what follows from them and the data."""
        config, data = self.config, self.data
        return {
            **config.parameters,
            Param.PARAMETERS: summary.parameters,
            Param.GMAC: f"{summary.gmac:.3f}",
            Param.DATA_NAME: data.store.name,
            Param.SYNTHETIC: data.store.synthetic,
            Param.DIGEST: data.digest,
            Param.EVALUATED_LENGTH: data.evaluated_length,
            Param.TRAIN_SPLIT: data.train.name,
            Param.TRAIN_DIGEST: data.train.digest,
            Param.TRAIN_PROTEINS: len(data.train),
            **({Param.SHARE_PROTEINS: self.proteins} if config.spec.recipe.train_share < 1 else {}),
            Param.VALID_SPLIT: data.valid.name,
            Param.VALID_DIGEST: data.valid.digest,
            Param.VALID_PROTEINS: len(data.valid),
            Param.STEPS: steps,
            Param.DEVICE: self.device,
        }

    def complete_epoch(self, epoch: Epoch, history: Sequence[EpochErrors], *, is_logged: bool) -> None:
        """Record an epoch, the last of a history.

        Where it is logged, a process ended after logging it, before it saved its state.
        """
        best = Best.of(history)
        write_epochs(self.folder / File.VALIDATION_ERRORS, [each.valid for each in history])
        if not is_logged:
            self.log_epoch(epoch, best)
        log.info(
            "epoch %d: train MSE %.4f, validation MSE %.4f Å², %.1f s",
            epoch.number, epoch.train.mse, epoch.valid.mse, epoch.seconds,
        )  # fmt: skip

    def log_epoch(self, epoch: Epoch, best: Best) -> None:
        """Log an epoch's metrics and the note; the best epoch by its own name, for MLflow shows a run's last values."""
        self.run.log_metrics(
            {
                Metric.TRAIN_MSE: epoch.train.mse,
                Metric.TRAIN_LOSS: epoch.loss,
                Metric.LR: epoch.lr,
                Metric.SECONDS: epoch.seconds,
                Metric.RATE: epoch.samples_per_second,
                Metric.PEAK_MEMORY: peak_memory(self.device) / 1e9,
                **beside_sepmean(Metric.VALID, epoch.valid, self.sepmean),
                Metric.BEST_MSE: best.valid.mse,
                Metric.BEST_RATIO: best.valid.mse / self.sepmean.mse,
                Metric.BEST_EPOCH: best.epoch,
            },
            step=epoch.number,
            note=self._note(best),
        )

    def _note(self, best: Best) -> str:
        """The text on the run's page in the UI."""
        config, data, sepmean = self.config, self.data, self.sepmean
        recipe, ratio = config.spec.recipe, best.valid.mse / sepmean.mse
        verdict = "better than" if ratio < 1 else "not better than"
        synthetic = " (**synthetic** proteins: for trying things out, not for claims)" if data.store.synthetic else ""
        trained = (
            f"Trained with {recipe.optimizer}, learning rate {recipe.lr:g} ({recipe.schedule}), batch "
            f"{recipe.batch_size * recipe.accumulate}, loss {recipe.loss}, seed {config.run.seed} (for Python, NumPy, "
            "torch, data order and crops)."
        )
        if config.spec.is_fitted:
            trained = "Fitted in one pass."
        # the page keeps line breaks, so a paragraph is one line
        paragraphs = (
            f"# {config.spec.name}, seed {config.run.seed}",
            config.spec.summary,
            f"**Best validation MSE {best.valid.mse:.2f} Å²** (RMSE {best.valid.rmse:.2f} Å, MAE {best.valid.mae:.2f} "
            f"Å) at epoch {best.epoch} of {recipe.epochs}. This is {ratio:.3f} times the MSE of `sepmean`, the mean "
            f"distance at each separation, on the same pairs ({sepmean.mse:.2f} Å²): {verdict} that baseline.",
            f"Data: `{data.store.name}`{synthetic}, trained on {self.proteins} proteins of `{data.train.name}`, "
            f"chosen on {len(data.valid)} of `{data.valid.name}`; atom {data.atom.upper()}, crop {recipe.crop}, the "
            f"first {data.evaluated_length} residues evaluated. Digest of the data: `{data.digest}`.",
            trained,
            f"The model's own recipe: {recipe.note}",
            "Distances between residues are in Å; errors are pooled over resolved pairs i < j. `legacy_sse_pm2` is the "
            "sum over the full map in pm², mean over proteins, as two earlier studies reported it.",
            f"To repeat it: `protcli train --config {File.CONFIG}` (from this run's artifacts). To measure it: "
            f"`protcli evaluate --run-id {self.run.id} --split valid`.",
        )
        return "\n\n".join(paragraphs)

    def calibrate(self, network: nn.Module) -> None:
        """Write the calibration of the confidence of the best weights on validation; the model has a distogram."""
        batches = self.data.validation(self.config.spec.recipe.batch_size)
        if (calibration := calibrate(network, batches, self.device)) is not None:
            write_whole(self.folder / File.CALIBRATION, calibration.to_json())

    def draw_results(self, network: nn.Module, history: Sequence[EpochErrors], best: Best) -> None:
        """Draw the run's pictures and write its table of validation proteins; `network` has the best weights."""
        # here, because importing matplotlib would delay the first step
        from protcli.figures.curves import draw_loss_curve
        from protcli.figures.maps import MapPair, draw_gallery

        data = self.data
        title = f"{self.config.spec.name}, seed {self.config.run.seed}, {data.store.name}, {data.atom.upper()}"
        draw_loss_curve(
            self.folder / File.LOSS_CURVE,
            title=title,
            train_mse=[epoch.train_mse for epoch in history],
            valid_mse=[epoch.valid.mse for epoch in history],
            sepmean_mse=self.sepmean.mse,
            best=best.epoch,
        )
        columns = best.valid.columns() | self.sepmean.columns(SEPMEAN)
        write_table(self.folder / File.PROTEINS, protein_table(data.valid, data.atom, columns))
        pages = {
            File.GALLERY: (list(range(min(GALLERY, len(data.valid)))), "the first validation proteins"),
            File.BEST_AND_WORST: (best_and_worst(best.valid, GALLERY // 2), "best and worst validation proteins"),
        }
        for name, (chosen, what) in pages.items():
            proteins = [data.valid[int(index)] for index in chosen]
            maps = [
                MapPair.of(network, protein, atom=data.atom, length=data.evaluated_length, device=self.device)
                for protein in proteins
            ]
            draw_gallery(self.folder / name, maps, title=f"{title}: {what}")
