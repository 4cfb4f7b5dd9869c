"""Measure a trained run on validation or, said explicitly and recorded, on the test split."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.record import CONFIG_FILE, MODEL_FILE, baseline_metrics, write_protein_table
from protcli.experiments.train import BEST, CHECKPOINTS, SEPMEAN
from protcli.models.zoo import find_model
from protcli.proteins.batches import ordered_batches
from protcli.proteins.dataset import find_store, require_atom
from protcli.proteins.metrics import PairErrors
from protcli.proteins.store import TESTING, VALIDATION, Split
from protcli.tracking.runs import RecordedRun, find_run, project_run
from protcli.training.checkpoint import load_weights
from protcli.training.engine import find_device, start_engine
from protcli.training.loop import evaluate

SPLITS = {"valid": VALIDATION, "test": TESTING}
OWN_PREFIXES = {"valid": "best/valid_", "test": "test/"}  # of the metrics on the run's own data


@dataclass(frozen=True)
class Evaluation:
    """What a run scores on one split.

    Attributes:
        run_id: of the run that was measured.
        config: as it was trained.
        data_name: of the store, `synthetic` whether it is made up, `source` where it is.
        split: the proteins, in the order of the errors.
        errors: of the run's best weights.
        sepmean: of the baseline fitted to the run's own training split.
        prefix: of the metrics' names in MLflow.
    """

    run_id: str
    config: RunConfig
    data_name: str
    synthetic: bool
    split: Split
    errors: PairErrors
    sepmean: PairErrors
    prefix: str
    source: str

    @property
    def is_other_data(self) -> bool:
        """Whether it was measured on other data than the run's own."""
        return self.prefix not in OWN_PREFIXES.values()

    @property
    def metrics(self) -> dict[str, float]:
        """By name, as logged."""
        return baseline_metrics(self.prefix, self.errors, self.sepmean)


def evaluate_run(
    run_id: str,
    *,
    split: str = "valid",
    data: str | None = None,
    atom: str | None = None,
    crop: int | None = None,
    device: str = "auto",
) -> Evaluation:
    """Measure the best weights of a run and log the figures, and a table of proteins, to that run.

    Figures on the run's own data are logged as `best/...` (validation; the epochs' own curves stay as they are) or
    `test/...`; on other data as `<split>-<digest>/...`, so that they never mix.

    Args:
        run_id: in MLflow.
        split: `valid` or `test`. Reading `test` is recorded on the run.
        data: `sample` or the folder of another store; None takes the run's own.
        atom, crop: what the caller takes the run to be trained for, checked; None takes the run's own.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: no such run, no weights in it, or data that is damaged or does not fit it.
    """
    if split not in SPLITS:
        raise ProtcliError(f"unknown split {split!r}: give --split valid or --split test")
    run = find_run(run_id)
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        config = _recorded_config(run, folder)
        for option, asked, trained in (("atom", atom, config.atom), ("crop", crop, config.spec.recipe.crop)):
            if asked not in (None, trained):
                raise ProtcliError(
                    f"run {run.id} was trained with --{option} {trained}: it cannot be measured with {asked}"
                )
        source = data or config.data
        store = find_store(source)
        proteins = store.split(SPLITS[split])
        proteins.verify()
        require_atom(proteins, config.atom, store)
        valid_digest = store.split_info(VALIDATION)["digest"] if VALIDATION in store.splits else ""
        own = valid_digest == run.params.get("data.valid_digest")
        if data is None and not own:
            raise ProtcliError(
                f"{config.data} is not the data that run {run.id} was trained on any more (its validation split is "
                f"another or gone): name the data to measure it on with --data"
            )
        fabric = start_engine(find_device(device), config.precision)
        model, baseline = config.spec.build(), find_model(SEPMEAN).build()
        load_weights(model, run.download(f"{CHECKPOINTS}/{BEST}.safetensors", folder))
        load_weights(baseline, run.download(f"{CHECKPOINTS}/{SEPMEAN}.safetensors", folder))
        model = model.to(memory_format=torch.channels_last)
        errors, sepmean = (
            _measure(fabric.setup(network), proteins, config, fabric.device) for network in (model, baseline)
        )
        prefix = OWN_PREFIXES[split] if own else f"{split}-{proteins.digest[:8]}/"
        result = Evaluation(run.id, config, store.name, store.synthetic, proteins, errors, sepmean, prefix, source)
        _record(run, result, split, folder)
        return result


def _measure(model: nn.Module, proteins: Split, config: RunConfig, device: torch.device) -> PairErrors:
    recipe = config.spec.recipe
    batches = ordered_batches(proteins, atom=config.atom, crop=recipe.crop, batch_size=recipe.batch_size)
    return evaluate(model, batches, device)


def _recorded_config(run: RecordedRun, folder: Path) -> RunConfig:
    path = run.download(CONFIG_FILE, folder)
    if MODEL_FILE in run.files():
        run.download(MODEL_FILE, folder)
    return read_config(path)


def _record(run: RecordedRun, result: Evaluation, split: str, folder: Path) -> None:
    """Log the figures to the run that was measured, and to the one that `mlflow run -e evaluate` has begun."""
    out = folder / "evaluation" / f"{split}-{result.split.digest[:8]}"
    out.mkdir(parents=True)
    about = {
        "run_id": run.id,
        "data": result.data_name,
        "split": result.split.name,
        "digest": result.split.digest,
        "proteins": len(result.split),
        "atom": result.config.atom,
        "crop": result.config.spec.recipe.crop,
        "metrics": result.metrics,
    }
    (out / "metrics.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    write_protein_table(out / "proteins.csv", result.split, result.errors, result.sepmean, result.config.atom)
    name = f"evaluated.{result.prefix.rstrip('/')}" if result.is_other_data else f"evaluated.{split}"
    tags = {f"{name}.digest": result.split.digest, f"{name}.proteins": len(result.split)}
    logs = [run.log()]
    if (begun := project_run()) and begun.id != run.id:
        begun.name(f"evaluate {result.config.spec.name} on {result.split.name}")
        begun.tags({"evaluated.run_id": run.id})
        logs.append(begun)
    for log in logs:
        log.metrics(result.metrics)
        log.tags(tags)
        log.artifact(folder / "evaluation", "evaluation")
        log.dataset(
            f"{result.data_name}/{result.split.name}",
            digest=result.split.digest,
            source=result.source,
            context=result.prefix.rstrip("/") if result.is_other_data else result.split.name,
            profile={"proteins": len(result.split), "residues": int(result.split.lengths.sum())},
        )
