"""All names used in MLflow: parameters, metrics, tags and the files of a run."""

from protcli.proteins.protein import TESTING, VALIDATION

SPLITS = {"valid": VALIDATION, "test": TESTING}  # evaluation splits: as typed -> as named in a store


class Param:
    """Parameters of a training run. All but `model` have a section prefix: `mlflow run -P` logs unprefixed names."""

    MODEL = "model"
    MODEL_SECTION, RECIPE_SECTION = "model.", "recipe."
    PARAMETERS, GMAC = "model.parameters", "model.gmac"

    EPOCHS, BATCH_SIZE, LR, OPTIMIZER, LOSS = (
        *("recipe.epochs", "recipe.batch_size", "recipe.lr", "recipe.optimizer", "recipe.loss"),
    )
    CROP = "recipe.crop"

    DATA_NAME, SYNTHETIC, DIGEST = "data.name", "data.synthetic", "data.digest"
    ATOM, EVALUATED_LENGTH = "data.atom", "data.evaluated_length"
    TRAIN_SPLIT, TRAIN_DIGEST, TRAIN_PROTEINS = "data.train_split", "data.train_digest", "data.train_proteins"
    SHARE_PROTEINS = "data.train_share_proteins"  # trained on, if the recipe takes a share of the training proteins
    HELD_OUT = "data.held_out"
    VALID_SPLIT, VALID_DIGEST, VALID_PROTEINS = "data.valid_split", "data.valid_digest", "data.valid_proteins"

    SEED, PRECISION, THREADS = "run.seed", "run.precision", "run.threads"
    STEPS = "run.steps"  # optimiser steps: epochs times the steps of an epoch
    DEVICE, DEVICE_NAME, COMMIT = "run.device", "run.device_name", "run.git_commit"
    DEVICES = "run.devices"

    # of the run that holds a sweep's trials
    SWEEP_LR, SWEEP_BATCH_SIZE, SWEEP_STEPS = "sweep.lr", "sweep.batch_size", "sweep.steps"
    SWEEP_HELD_OUT, SWEEP_SEED, SWEEP_OWN = "sweep.held_out", "sweep.seed", "sweep.own_recipe"

    VERSION_SECTION = "version."
    PROTCLI, PYTHON = "version.protcli", "version.python"


class Metric:
    """Metrics of a run. A key is a prefix and the name of a score: `valid/` and `mse`."""

    VALID, BEST = "valid/", "best/valid_"
    TRAIN_MSE, TRAIN_LOSS, LR = "train/mse", "train/loss", "train/lr"
    SECONDS, RATE, PEAK_MEMORY = "train/seconds", "train/samples_per_second", "train/peak_memory_gb"
    VALID_MSE, VALID_MAE = "valid/mse", "valid/mae"
    BEST_MSE, BEST_RATIO, BEST_EPOCH = "best/valid_mse", "best/valid_mse_over_sepmean", "best/epoch"
    BY_SAMPLES = "samples/"  # over the training proteins seen, not over epochs
    SWEEP_BEST = "sweep/best_mse"  # of the trials so far, on the families held out


class Tag:
    """Tags of runs and of registered versions."""

    ERROR = "error"  # why a run failed
    DIVERGED = "diverged"  # its loss was no longer finite
    DETERMINISTIC = "deterministic"
    PROCESS = "run.process"  # the process that writes or wrote the run: see `protcli.process`
    # trained offline: `yes`, then `copied`; the run that it is copied to; the run that this one is a copy of
    OFFLINE, COPIED_FROM = "run.offline", "run.copied_from"
    LOST = "run.lost"  # that process ended without ending the run
    RESUMED = "run.resumed"  # how often it was resumed

    EVALUATED = "evaluated"
    EVALUATED_RUN = "evaluated.run_id"
    VALID_MEASURED = "evaluated.valid.digest"
    TEST_READ = "test.read"

    VERSION, DECISION, REASON = "promotion.version", "promotion.decision", "promotion.reason"
    CHOSEN_FROM, TIME, AGAINST = "promotion.chosen_from", "promotion.time", "promotion.against"
    WEIGHTS, MEMBERS = "promotion.weights", "promotion.members"  # runs whose mean a version predicts
    IMPROVEMENT, FORCED, SUCCEEDED_BY = "promotion.improvement", "promotion.forced", "promotion.succeeded_by"
    BEATS_SEPMEAN, OVER_SEPMEAN = "promotion.beats_sepmean", "promotion.improvement_over_sepmean"

    PARENT = "mlflow.parentRunId"  # the UI groups runs under this parent
    SUITE, CELL, SUITE_SEED = "suite", "suite.cell", "suite.seed"
    IDENTITY, COMMAND, SEEDS = "suite.identity", "suite.command", "suite.seeds"
    SUITE_DATA, SUITE_COMMIT = "suite.data", "suite.git_commit"
    CONTINUES = "run.continues"  # of a run begun by `mlflow run`: the run that it went on with

    TUNED_TRIALS, TUNED_HELD_OUT = "suite.tuned_trials", "suite.tuned_held_out"  # of each cell; of the training split

    SWEEP, SWEEP_MODEL, SWEEP_TRIAL = "sweep", "sweep.model", "sweep.trial"
    PRUNED = "sweep.pruned"  # the run of a trial that was ended because others were better
    SWEEP_REFIT = "sweep.refit"  # the trial whose recipe a run was trained with
    SWEEP_IDENTITY, SWEEP_STUDY = "sweep.identity", "sweep.study"
    SWEEP_WANTED, SWEEP_COUNTED, SWEEP_BEST = "sweep.wanted", "sweep.counted", "sweep.best"  # trials; the best's number
    SWEEP_HELD_OUT = "sweep.held_out"


class File:
    """Artifacts of a run."""

    CONFIG, MODEL, LAYERS, LOG = "config.yaml", "model.py", "layers.txt", "log.txt"
    PROTEINS = "validation_proteins.csv"  # errors of the best epoch
    VALIDATION_ERRORS = "validation_errors.safetensors"  # of every epoch: see `experiments.scores`
    CALIBRATION = "calibration.json"  # of the confidence, on validation; of a model that predicts distributions
    LOSS_CURVE, GALLERY, BEST_AND_WORST = "loss.png", "gallery.png", "best_and_worst.png"
    CHECKPOINTS = "checkpoints"
    BEST, LAST = "best", "last"  # names of the weights in the checkpoints
    SEPMEAN, SEPMEAN_LENGTH = "sepmean", "sepmean-length"  # the baselines' too; they are the models' names
    STATE = "checkpoints/state.safetensors"  # of an unfinished training run
    EVALUATION = "evaluation"
    SUITE = "suite.yaml"
    REPORT = "report"
    SWEEP = "sweep"  # table and figures of a sweep
    OWN_CONFIG, BEST_CONFIG = "own_config.yaml", "best_config.yaml"


def proteins_name(split: str, digest: str) -> str:
    """A split by its proteins, in names of metrics, tags and files: `test-1a2b3c4d`."""
    return f"{split}-{digest[:8]}"


def weights_path(name: str) -> str:
    """The artifact path of the weights with that name: `checkpoints/best.safetensors`."""
    return f"{File.CHECKPOINTS}/{name}.safetensors"
