"""A sweep's trials: what each scored, and which parameter mattered."""

import warnings
from collections.abc import Callable
from pathlib import Path

import optuna.visualization.matplotlib as optuna_figures
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from optuna import Study


def draw_history(path: Path, study: Study) -> None:
    """Write a PNG of each trial's validation MSE (Å²) and the lowest so far; trials that diverged are left out."""
    _draw(path, optuna_figures.plot_optimization_history, study)


def draw_importances(path: Path, study: Study) -> None:
    """Write a PNG of how much each parameter decided the validation MSE, by Optuna's default evaluator."""
    _draw(path, optuna_figures.plot_param_importances, study)


def _draw(path: Path, plot: Callable[..., Axes], study: Study) -> None:
    with warnings.catch_warnings(), plt.style.context("default"):
        warnings.simplefilter("ignore")  # the module is marked experimental, and warns of few trials
        figure = plot(study, target_name="validation MSE (Å²)").get_figure(root=True)
        assert figure is not None
        figure.savefig(path, dpi=120, format="png", bbox_inches="tight")
        plt.close(figure)
