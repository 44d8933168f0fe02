"""`shiftscope export`: a detector in the format of other software."""

from __future__ import annotations

from pathlib import Path

from reports.options import ExportOptions
from reports.progress import Reporter
from train.environment import trust_checkpoints


def export_detector(options: ExportOptions, reporter: Reporter) -> Path:
    """Write the detector into a new folder; returns the file or folder written. Raises InputError,
    EnvironmentProblem.
    """
    if options.trust_checkpoint:
        trust_checkpoints()
    from train.export import export, export_arguments

    extra = export_arguments(options.format, options.arguments)
    with reporter.stage("export", f"Exporting {options.weights} to {options.format}"):
        return export(
            options.weights,
            options.format,
            name=options.name,
            imgsz=options.imgsz,
            device=options.device,
            extra=extra,
        )
