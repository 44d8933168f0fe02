"""The notebook runs from top to bottom, offline, on a CPU, in minutes, and shows a report and two curves."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow  # the notebook trains

NOTEBOOK = Path(__file__).parents[1] / "train" / "notebook.ipynb"


def test_the_notebook_is_valid_and_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells)
    # Each code cell has a heading.
    assert [cell.cell_type for cell in notebook.cells[1:]] == ["markdown", "code"] * len(code_cells)
    # The repository has no fixed address.
    assert "://" not in NOTEBOOK.read_text(encoding="utf-8")


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(runs))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    # Waiting threads give up their core, which matters when tests run in parallel.
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    # As in a kernel started by a user: figures are shown in the notebook.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if "EPOCHS = 15" in cell.source)
    # Enough to run every cell; what fifteen epochs learn is not tested here.
    settings.source = settings.source.replace("EPOCHS = 15", "EPOCHS = 2")
    NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    headings = [cell.source.splitlines()[0].strip("# ") for cell in notebook.cells[1::2]]
    outputs_of = dict(zip(headings, [cell.outputs for cell in notebook.cells[2::2]], strict=True))
    text_of = {
        heading: "".join(out.get("text", "") for out in outputs) for heading, outputs in outputs_of.items()
    }
    assert "Shiftscope" in text_of["Install"]
    run = runs / "train" / "notebook"
    assert f"{run}\n" in text_of["Train"]
    assert "epoch 2 of 2" in text_of["Train"]
    curves = dict(line.split() for line in text_of["Training curves"].splitlines() if len(line.split()) == 2)
    assert {"validation", "drone"} <= set(curves)
    assert all(0 <= float(curves[name]) <= 1 for name in ("validation", "drone"))
    assert count_images(outputs_of["Training curves"]) == 1
    page = next(out.data["text/html"] for out in outputs_of["Report"] if "text/html" in out.get("data", {}))
    assert page.count("<iframe srcdoc=") == 1
    assert "&lt;/html&gt;" in page
    record = json.loads((runs / "report" / "notebook" / "report.json").read_text(encoding="utf-8"))
    assert record["ledger"]["files"]["used"] > 0
    assert count_images(outputs_of["Predict the footage"]) == 3
    assert "confidence" in outputs_of["Predict the footage"][-1].data["text/html"]
    assert (runs / "next" / "notebook" / "hand-off" / "data.yaml").is_file()
    assert "shiftscope export" in text_of["Your own data"]


def count_images(outputs: list[nbformat.NotebookNode]) -> int:
    """Number of images among the outputs of a cell."""
    kinds = [kind for out in outputs for kind in out.get("data", {})]
    return kinds.count("image/png") + kinds.count("image/jpeg")
