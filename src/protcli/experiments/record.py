"""What a run records in MLflow: parameters, a note, metrics per epoch, tables and pictures."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from protcli.atomic import atomic_write, write_whole
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, read_config
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
from protcli.models.zoo import find_model
from protcli.proteins.batches import on_device
from protcli.proteins.dataset import Dataset
from protcli.proteins.map_scores import lddt
from protcli.proteins.maps import distances
from protcli.proteins.metrics import PairErrors, mean_of_known
from protcli.tracking.keys import File, Metric, Param, Tag, weights_path
from protcli.tracking.run import Run
from protcli.training.checkpoint import save_checkpoint
from protcli.training.engine import peak_memory
from protcli.training.loop import Epoch, evaluate
from protcli.training.state import Best, EpochErrors, saved_states, state_paths

BASELINE_BATCH = 32
GALLERY = 4  # proteins on a page of maps

log = logging.getLogger("protcli")


@dataclass(frozen=True)
class Prepared:
    """A training of which everything that can be refused has been checked.

    Attributes:
        config: with what it is really trained with.
        data, fabric, summary: what it is trained on, by (in this process alone), and the model's layers.
        proteins, steps: how many proteins it is trained on, and its optimiser steps.
        changes: what is not as when its configuration was written, a clause each.
    """

    config: RunConfig
    data: Dataset
    fabric: Fabric
    summary: ModelSummary
    proteins: int
    steps: int
    changes: list[str]


@dataclass(frozen=True)
class Record:
    """Writes to one training run.

    Attributes:
        run: in MLflow; the files of its folder are its artifacts.
        training: what it shows.
        sepmean: the baseline's errors on validation.
        logged: epochs that a process that was stopped has logged.
    """

    run: Run
    training: Prepared
    sepmean: PairErrors
    logged: frozenset[int]

    @classmethod
    def begin(cls, run: Run, training: Prepared, resumed: Run | None) -> "Record":
        """Fit the baselines, and record what is known before the first epoch.

        Args:
            run: to be written to.
            training: what it shows.
            resumed: the run as it was found, if it is resumed.

        Raises:
            ProtcliError: the state to resume from is gone.
        """
        data, device = training.data, training.fabric.device
        (run.folder / File.CHECKPOINTS).mkdir(exist_ok=True)
        for name in (File.SEPMEAN_LENGTH, File.SEPMEAN):
            baseline = find_model(name).build().to(device)
            baseline.fit(on_device(data.fitting(BASELINE_BATCH).epoch(), device))  # type: ignore[operator]
            about = {"model": name, "split": data.train.name}
            save_checkpoint(run.folder / File.CHECKPOINTS, name, baseline.state_dict(), about)
        sepmean = evaluate(baseline, data.validation(BASELINE_BATCH), device)
        record = cls(run, training, sepmean, frozenset(resumed.history(Metric.VALID_MSE) if resumed else ()))
        if resumed is None:
            record._describe()
        else:
            record._continue(resumed)
        if training.changes:
            log.warning("figures may differ in their last digits: %s", "; ".join(training.changes))
        return record

    def _continue(self, resumed: Run) -> None:
        folder = self.run.folder
        # a run that was killed when it was all but finished has its last weights, and is repeated
        has_state = saved_states(folder / File.STATE) or (folder / weights_path(File.LAST)).is_file()
        if len(self.logged) > 1 and not has_state:
            raise ProtcliError(
                f"run {self.run.id} has {len(self.logged)} epochs, but its {File.STATE} is gone: train it again as a "
                "new run"
            )
        path, source = folder / File.CONFIG, self.training.config.data.source
        if (kept := read_config(path)).data.source != source:  # the data were moved: its other processes read it too
            file = kept.model_file and Path(File.MODEL)
            write_whole(path, replace(kept.with_settings(source=source), model_file=file).to_yaml())
        # what was measured of its best weights by now will not be those of its end
        times = int(resumed.tags.get(Tag.RESUMED, 0)) + 1
        self.run.set_tags({Tag.RESUMED: times, Tag.ERROR: "", Tag.LOST: "", Tag.DIVERGED: "", Tag.VALID_MEASURED: ""})

    def _describe(self) -> None:
        """Record parameters, data sets, layers and configuration."""
        run, config, data = self.run, self.training.config, self.training.data
        share = {Param.SHARE_PROTEINS: self.training.proteins} if config.spec.recipe.train_share < 1 else {}
        run.log_params(
            {
                **config.parameters,
                Param.PARAMETERS: self.training.summary.parameters,
                Param.GMAC: f"{self.training.summary.gmac:.3f}",
                Param.DATA_NAME: data.store.name,
                Param.SYNTHETIC: data.store.synthetic,
                Param.DIGEST: data.digest,
                Param.EVALUATED_LENGTH: data.evaluated_length,
                Param.TRAIN_SPLIT: data.train.name,
                Param.TRAIN_DIGEST: data.train.digest,
                Param.TRAIN_PROTEINS: len(data.train),
                **share,
                Param.VALID_SPLIT: data.valid.name,
                Param.VALID_DIGEST: data.valid.digest,
                Param.VALID_PROTEINS: len(data.valid),
                Param.STEPS: self.training.steps,
                Param.DEVICE: self.training.fabric.device,
            }
        )
        for split, context in ((data.train, "training"), (data.valid, "validation")):
            profile = {
                "proteins": len(split), "residues": int(split.lengths.sum()), "atom": data.atom,
                "evaluated_length": data.evaluated_length,
            }  # fmt: skip
            name, source = f"{data.store.name}/{split.name}", config.data.source
            run.log_dataset(name, digest=split.digest, source=source, context=context, profile=profile)
        write_whole(run.folder / File.LAYERS, self.training.summary.to_text() + "\n")
        if config.spec.source:
            with atomic_write(run.folder / File.MODEL) as partial:
                shutil.copyfile(config.spec.source, partial)
            config = replace(config, model_file=Path(File.MODEL))
        # last: once it is there, the run can be resumed
        write_whole(run.folder / File.CONFIG, config.to_yaml())
        run.publish(File.MODEL, File.CONFIG)

    def complete_epoch(self, epoch: Epoch, history: Sequence[EpochErrors]) -> None:
        """Record an epoch, the last of a history; one that is logged already was so before its state was saved."""
        write_epochs(self.run.folder / File.VALIDATION_ERRORS, [each.valid for each in history])
        if epoch.number not in self.logged:
            self.log_epoch(epoch, Best.of(history))
        log.info(
            "epoch %d: train MSE %.4f, validation MSE %.4f Å², %.1f s",
            epoch.number, epoch.train_mse, epoch.valid.mse, epoch.seconds,
        )  # fmt: skip

    @torch.inference_mode()
    def log_by_samples(self, epoch: Epoch, samples: int, network: nn.Module) -> None:
        """Log what an epoch's network scores on validation over the training proteins seen by then."""
        if epoch.number not in self.logged:
            network.eval()
            device, size = self.training.fabric.device, self.training.config.spec.recipe.batch_size
            batches = on_device(self.training.data.validation(size).epoch(1), device)
            found = [lddt(network(each.residues).distance, distances(each.coords), each.mask) for each in batches]
            figures = {"mse": epoch.valid.mse, "lddt": mean_of_known(torch.cat(found).cpu().numpy())}
            self.run.log_metrics({f"{Metric.BY_SAMPLES}{name}": value for name, value in figures.items()}, step=samples)

    def log_epoch(self, epoch: Epoch, best: Best) -> None:
        """Log an epoch's metrics and the note; the best epoch by its own name, for MLflow shows a run's last values."""
        self.run.log_metrics(
            {
                Metric.TRAIN_MSE: epoch.train_mse,
                Metric.TRAIN_LOSS: epoch.loss,
                Metric.LR: epoch.lr,
                Metric.SECONDS: epoch.seconds,
                Metric.RATE: epoch.samples_per_second,
                Metric.PEAK_MEMORY: peak_memory(self.training.fabric.device) / 1e9,
                **beside_sepmean(Metric.VALID, epoch.valid, self.sepmean),
                Metric.BEST_MSE: best.valid.mse,
                Metric.BEST_RATIO: best.valid.mse / self.sepmean.mse,
                Metric.BEST_EPOCH: best.epoch,
            },
            step=epoch.number,
            note=self._note(best) if best.epoch == epoch.number else None,
        )

    def _note(self, best: Best) -> str:
        """The text on the run's page in the UI."""
        config, data, sepmean = self.training.config, self.training.data, self.sepmean
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
            f"Data: `{data.store.name}`{synthetic}, trained on {self.training.proteins} proteins of "
            f"`{data.train.name}`, chosen on {len(data.valid)} of `{data.valid.name}`; atom {data.atom.upper()}, crop "
            f"{recipe.crop}, the first {data.evaluated_length} residues evaluated. Digest of the data: "
            f"`{data.digest}`.",
            trained,
            f"The model's own recipe: {recipe.note}",
            "Distances between residues are in Å; errors are pooled over resolved pairs i < j. `legacy_sse_pm2` is the "
            "sum over the full map in pm², mean over proteins, as two earlier studies reported it.",
            f"To repeat it: `protcli train --config {File.CONFIG}` (from this run's artifacts). To measure it: "
            f"`protcli evaluate --run-id {self.run.id} --split valid`.",
        )
        return "\n\n".join(paragraphs)

    def finish(self, history: Sequence[EpochErrors]) -> None:
        """Write what is made with the best weights (pictures, the confidence's calibration) and remove the state."""
        # here, because importing matplotlib would delay the first step
        from protcli.figures.curves import draw_loss_curve
        from protcli.figures.maps import MapPair, draw_gallery

        config, data, fabric, folder = self.training.config, self.training.data, self.training.fabric, self.run.folder
        network, best = config.saved_model(folder / weights_path(File.BEST)).network(fabric), Best.of(history)
        if self.training.summary.bins:
            calibration = calibrate(network, data.validation(config.spec.recipe.batch_size), fabric.device)
            if calibration is not None:
                write_whole(folder / File.CALIBRATION, calibration.to_json())
        title = f"{config.spec.name}, seed {config.run.seed}, {data.store.name}, {data.atom.upper()}"
        draw_loss_curve(
            folder / File.LOSS_CURVE, title=title, train_mse=[epoch.train_mse for epoch in history],
            valid_mse=[epoch.valid.mse for epoch in history], sepmean_mse=self.sepmean.mse, best=best.epoch,
        )  # fmt: skip
        columns = best.valid.columns() | self.sepmean.columns(SEPMEAN)
        write_table(folder / File.PROTEINS, protein_table(data.valid, data.atom, columns))
        pages = {
            File.GALLERY: (range(min(GALLERY, len(data.valid))), "the first validation proteins"),
            File.BEST_AND_WORST: (best_and_worst(best.valid, GALLERY // 2), "best and worst validation proteins"),
        }
        for name, (proteins, what) in pages.items():
            maps = [
                MapPair.of(
                    network, data.valid[int(index)], atom=data.atom, length=data.evaluated_length, device=fabric.device
                )
                for index in proteins
            ]
            draw_gallery(folder / name, maps, title=f"{title}: {what}")
        for path in state_paths(Path(File.STATE)):
            self.run.delete_artifact(path.as_posix())  # a finished run is never resumed
