"""What FiftyOne loads: the panel and the operators of `reports.workbench`."""

from __future__ import annotations

from typing import Any

from reports.workbench.map_panel import MapPanel
from reports.workbench.operators import (
    CompareRuns,
    FetchAnnotations,
    HandOff,
    SendToAnnotation,
    SendToLabelNext,
)
from reports.workbench.panel import ShiftPanel


def register(plugin: Any) -> None:
    """Called by FiftyOne when it loads the plugin."""
    for part in (
        ShiftPanel,
        MapPanel,
        SendToLabelNext,
        CompareRuns,
        HandOff,
        SendToAnnotation,
        FetchAnnotations,
    ):
        plugin.register(part)
