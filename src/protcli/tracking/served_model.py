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
    """Maps a table with a protein per row, `sequence` and optionally `profile` [L][21], to `distance` [L][L] in Å.

    A model that was trained with features needs `features` [L][D], too.
    """

    def load_context(self, context: PythonModelContext) -> None:
        self._predictor = Predictor(read_bundle(Path(context.artifacts[BUNDLE])), find_device("auto"))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        try:
            chains = [
                self._predictor.chain(
                    f"row {number}", row["sequence"], *(_given(row.get(name)) for name in ("profile", "features"))
                )
                for number, row in enumerate(_rows(model_input), start=1)
            ]
            maps = [predicted.distance for predicted in self._predictor.predict_all(chains, probabilities=False)]
        except ProtcliError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        return pd.DataFrame({"distance": maps})


def _rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """One dictionary per protein. MLflow turns `instances` into one row whose cells are arrays: whole columns."""
    if len(table) == 1 and isinstance(table["sequence"].iloc[0], np.ndarray):
        table = pd.DataFrame({name: column.iloc[0].tolist() for name, column in table.items()})
    return table.to_dict("records")


def _given(table: Any) -> Any:
    """The profile or the features, or None: pandas writes NaN in rows without."""
    return None if isinstance(table, float) and table != table else table


set_model(DistanceModel())
