"""The notebook runs from top to bottom as it lies there: offline, on a CPU, in minutes, and shows a report and two curves."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "train" / "notebook.ipynb"


def test_it_is_a_notebook_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in codes)
    # Each has its heading.
    assert [cell.cell_type for cell in notebook.cells[1:]] == ["markdown", "code"] * len(codes)
    # Whoever keeps the repository decides where it is.
    assert "://" not in NOTEBOOK.read_text(encoding="utf-8")


@pytest.mark.timeout(480)
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(runs))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    # Threads that wait give their core away, which counts where other work runs beside this.
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    # As in a kernel that no test has started: figures go into the page.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=450, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    # Headings are those of the cells before: see above.
    headings = [cell.source.splitlines()[0].strip("# ") for cell in notebook.cells[1::2]]
    shown = dict(zip(headings, [cell.outputs for cell in notebook.cells[2::2]], strict=True))
    said = {heading: "".join(out.get("text", "") for out in outputs) for heading, outputs in shown.items()}
    assert "Shiftscope" in said["Install"]
    run = runs / "train" / "notebook"
    assert said["Train"].endswith(f"{run}\n")
    assert "epoch 15 of 15" in said["Train"]
    curves = dict(line.split() for line in said["Learning curves"].splitlines() if len(line.split()) == 2)
    assert {"validation", "drone"} <= set(curves)
    assert 0.2 < float(curves["validation"]) <= 1
    assert float(curves["drone"]) < float(curves["validation"])
    assert images(shown["Learning curves"]) == 1
    page = next(out.data["text/html"] for out in shown["Report"] if "text/html" in out.get("data", {}))
    assert page.count("<iframe srcdoc=") == 1
    assert "&lt;/html&gt;" in page
    record = json.loads((runs / "report" / "notebook" / "report.json").read_text(encoding="utf-8"))
    assert record["ledger"]["files"]["used"] > 0
    assert images(shown["Look at the footage"]) == 3
    assert "confidence" in shown["Look at the footage"][-1].data["text/html"]
    assert (runs / "next" / "notebook" / "hand-off" / "data.yaml").is_file()
    assert "shiftscope export" in said["Your own data"]


def images(outputs: list[nbformat.NotebookNode]) -> int:
    """How many images a cell shows."""
    kinds = [kind for out in outputs for kind in out.get("data", {})]
    return kinds.count("image/png") + kinds.count("image/jpeg")
