"""The registered model as MLflow serves it: every version contains a copy of this file, executed to load it.

Nothing imports this module. An invalid request is answered with status 400 and one sentence.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from protcli.errors import ProtcliError
from protcli.tracking.bundle import BUNDLE, read_bundle
from protcli.training.engine import find_device
from protcli.training.predictor import Predictor


class DistanceModel(PythonModel):
    """Maps a table with a protein per row, `sequence` and optionally `profile` [L][21], to `distance` [L][L] in Å."""

    def load_context(self, context: PythonModelContext) -> None:
        self._predictor = Predictor(read_bundle(Path(context.artifacts[BUNDLE])), find_device("auto"))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        try:
            chains = [
                self._predictor.chain(f"row {number}", row["sequence"], _profile_or_none(row.get("profile")))
                for number, row in enumerate(_rows(model_input), start=1)
            ]
            maps = [predicted.distance for predicted in self._predictor.predict_all(chains, probabilities=False)]
        except ProtcliError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        except MemoryError:
            longest = max(len(chain) for chain in chains)
            message = f"there is too little memory here for a chain of {longest} residues: send a shorter one"
            raise MlflowException(message, error_code=INVALID_PARAMETER_VALUE) from None
        return pd.DataFrame({"distance": maps})


def _rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """One dictionary per protein. MLflow turns `instances` into one row whose cells are arrays: whole columns."""
    rows = table.to_dict("records")
    if len(rows) == 1 and isinstance(rows[0]["sequence"], np.ndarray):
        columns = {
            name: [str(cell) if isinstance(cell, np.str_) else cell for cell in cells]
            for name, cells in rows[0].items()
        }
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return rows


def _profile_or_none(profile: Any) -> Any:
    """The profile, or None: pandas writes NaN in rows without one."""
    return None if isinstance(profile, float) and profile != profile else profile


set_model(DistanceModel())
