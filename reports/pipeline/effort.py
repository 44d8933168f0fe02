"""What a report may cost beyond one forward pass over the images."""

from __future__ import annotations

from dataclasses import dataclass

from reports.options import Effort

# Where there are few images, as many passes are what the smallest useful set of experiments takes:
# interventions on one domain and the corruptions of the label-free estimate.
LEAST_PASSES = 1500
# What each further domain without labels takes: forty images squeezed, and twenty at twice the size.
PASSES_A_DOMAIN = 120


@dataclass(frozen=True)
class Allowance:
    """What one effort allows.

    images: most images that an intervention is tried on
    first: images after which an intervention is left that recovers nothing; None to try all images
    share: forward passes beyond the first, as a share of the first; None without a limit
    label_free: whether corruptions for the label-free estimate are predicted
    all_corruptions: at both severities of every family, not at one
    """

    images: int
    first: int | None
    share: float | None
    label_free: bool
    all_corruptions: bool


# Sixty images an intervention in place of a hundred were tried: for one of fifteen sets of photographs (fog,
# where the interval was as wide as the drop), that led to another cause.
ALLOWANCES = {
    Effort.QUICK: Allowance(images=30, first=15, share=0.5, label_free=False, all_corruptions=False),
    Effort.STANDARD: Allowance(images=100, first=20, share=1.0, label_free=True, all_corruptions=False),
    Effort.THOROUGH: Allowance(images=100, first=None, share=None, label_free=True, all_corruptions=True),
}


class Budget:
    """Forward passes beyond the first over all images, in passes at its input size.

    A pass at twice the side counts as four. What is stored already counts too, so that a second report tries
    the same.

    Parameters
    ----------
    effort
        What was asked for.
    passes
        Forward passes of plain inference.
    imgsz
        Their network input size, in pixels.
    further
        Number of domains without labels beyond the first domain.
    """

    def __init__(self, effort: Effort, passes: int, imgsz: int, further: int = 0) -> None:
        self.effort, self.allowance, self.imgsz = effort, ALLOWANCES[effort], imgsz
        share = self.allowance.share
        least = LEAST_PASSES + PASSES_A_DOMAIN * further
        self.limit = float("inf") if share is None else share * max(passes, least)
        self.spent = 0.0
        self.left_out: list[str] = []

    @property
    def left(self) -> float:
        """Passes that are left."""
        return self.limit - self.spent

    def cost(self, images: int, imgsz: int) -> float:
        """Passes that images at an input size count as."""
        return images * (imgsz / self.imgsz) ** 2

    def take(self, what: str, images: int, imgsz: int | None = None, *, needed: bool = False) -> bool:
        """Take passes from the budget; False, and what is noted as left out, where they are not left.

        needed: taken whatever is left, because others wait for the result.
        """
        cost = self.cost(images, imgsz or self.imgsz)
        if not needed and self.spent + cost > self.limit:
            self.left_out.append(what)
            return False
        self.spent += cost
        return True
