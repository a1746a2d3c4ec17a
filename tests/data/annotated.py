"""Writes ``annotated.h5ad`` by AnnData itself.

Run with anndata 0.12.19, pandas 2.3.3: ``python tests/data/annotated.py``.
"""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

HERE = Path(__file__).parent
sleep = pd.read_csv(HERE / "sleepstudy.csv")
obs = pd.DataFrame(
    {
        "Days": sleep["Days"].to_numpy(),
        "Subject": pd.Categorical(sleep["Subject"].astype(str)),
        "dose": pd.array([1, None, 3] * 60, "Int64"),
        "night": pd.array([True, None] * 90, "boolean"),
        "note": [f"{i} é" for i in range(180)],
    },
    index=[f"s{i}" for i in range(180)],
)
y = sleep["Reaction"].to_numpy()
X = np.round(np.column_stack([y, y[::-1], np.where(y > 300, y, 0.0)]), 1)
matrix = anndata.AnnData(
    X=X,
    obs=obs,
    var=pd.DataFrame(index=["up", "down", "rare"]),
    layers={"rows": sparse.csr_matrix(X), "columns": sparse.csc_matrix(X)},
)
matrix.write_h5ad(HERE / "annotated.h5ad", compression="gzip")
