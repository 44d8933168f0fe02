"""The plugin that FiftyOne loads: panels and operators of `reports.workbench`."""

from __future__ import annotations

from typing import Any

from reports.workbench.map_panel import MapPanel
from reports.workbench.operators import (
    CompareRuns,
    FetchAnnotations,
    HandOff,
    SendToAnnotation,
    TagLabelNext,
)
from reports.workbench.panel import ShiftPanel


def register(plugin: Any) -> None:
    """Register everything with FiftyOne, which calls this when it loads the plugin."""
    for part in (
        ShiftPanel,
        MapPanel,
        TagLabelNext,
        CompareRuns,
        HandOff,
        SendToAnnotation,
        FetchAnnotations,
    ):
        plugin.register(part)
