"""Objects in other surroundings: what is cut out stays, what is around is exchanged, and the kind is named by
it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.simulated import make_domain
from datasets.pixels import decode
from datasets.tables import CORNERS
from diagnostics.counterfactuals import Recovery
from diagnostics.domain import Domain
from diagnostics.evidence import Evidence
from diagnostics.gather import gather
from diagnostics.hypotheses import domain_shift
from diagnostics.inputs import Experiments, Inputs, Interventions
from reports.pipeline.surroundings import compose, cover, in_other_surroundings


def test_objects_stay_and_all_else_is_exchanged() -> None:
    front, back = np.full((100, 200, 3), 200, np.uint8), np.full((100, 200, 3), 30, np.uint8)
    mixed = compose(front, back, np.array([[50.0, 20.0, 90.0, 60.0], [180.0, 80.0, 200.0, 100.0]]))
    assert (mixed[20:60, 50:90] == 200).all()
    # At the edge of the image there is nothing to fade into.
    assert (mixed[80:100, 180:200] == 200).all()
    assert (mixed[:, :40] == 30).all()
    # Between the two it fades.
    assert 30 < mixed[40, 44, 0] < 200
    assert (compose(front, back, np.zeros((0, 4))) == 30).all()


def test_a_cover_fills_the_size_and_boxes_move_with_it() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    image[20:30, 10:20] = 255
    covered, scale, offset = cover(image, 200, 100)
    assert covered.shape == (100, 200, 3)
    x, y = np.array([15, 25]) * scale - offset
    assert covered[int(y), int(x)].min() > 200


def domain_of_one_image(folder: Path, name: str, value: int, box: tuple[int, int, int, int]) -> Domain:
    """Three images of one grey with a white object, labelled."""
    folder.mkdir()
    rows, boxes = [], []
    for number in range(3):
        pixels = np.full((60, 80, 3), value, np.uint8)
        pixels[box[1] : box[3], box[0] : box[2]] = 255
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), pixels)
        rows.append(
            {
                "image": f"{name}{number}",
                "path": str(path),
                "split": "",
                "group": f"{name}{number}",
                "width": 80,
                "height": 60,
                "labelled": True,
                "unusable": False,
                "seconds": np.nan,
            }
        )
        boxes.append(
            {"image": f"{name}{number}", "label": 0, "crowd": False, **dict(zip(CORNERS, box, strict=True))}
        )
    nothing = pd.DataFrame(columns=["image", "label", *CORNERS, "confidence"])
    empty = np.zeros((3, 0), np.float32)
    return Domain(
        name, "real_world", pd.DataFrame(rows), pd.DataFrame(boxes), nothing, empty, empty[:0], 64, ("hole",)
    )


def test_the_detector_sees_the_objects_among_others_whose_own_count_neither_way(tmp_path: Path) -> None:
    here = domain_of_one_image(tmp_path / "here", "a", 90, (10, 10, 30, 30))
    there = domain_of_one_image(tmp_path / "there", "b", 20, (60, 40, 75, 55))
    seen: list[np.ndarray] = []

    def predict(composed: Domain) -> Domain:
        seen.extend(decode(Path(path)) for path in composed.images["path"])
        return composed

    after = in_other_surroundings(here, there, predict, seed=0)
    for pixels in seen:
        assert (pixels[12:28, 12:28] == 255).all()
        assert pixels[55, 5].max() == 20
        assert (pixels[42:54, 62:74] == 255).all()
    # The images keep their own names and files; what was composed is gone.
    assert after.images["path"].tolist() == here.images["path"].tolist()
    crowds = after.annotations[after.annotations["crowd"].astype(bool)]
    assert crowds[CORNERS].to_numpy().tolist() == [[60, 40, 75, 55]] * 3
    assert len(after.annotations) == 6


def test_an_unreadable_image_is_left_out(tmp_path: Path) -> None:
    here = domain_of_one_image(tmp_path / "here", "a", 90, (10, 10, 30, 30))
    there = domain_of_one_image(tmp_path / "there", "b", 20, (60, 40, 75, 55))
    Path(here.images["path"].iloc[1]).write_bytes(b"no image")
    after = in_other_surroundings(here, there, lambda composed: composed, seed=0)
    assert after.images["image"].tolist() == ["a0", "a2"]
    assert set(after.annotations["image"]) == {"a0", "a2"}


def evidence(**shares: float) -> Evidence:
    """A drop whose interventions recover these shares of it."""
    in_domain = make_domain(clips=10)
    real_world = make_domain("real_world", clips=10, seed=1, recall=0.3, embedding_shift=6.0)
    recoveries = {
        name: Recovery(name, 0.3, 0.3 + 0.5 * share, share, share - 0.1, share + 0.1, 60)
        for name, share in shares.items()
    }
    experiments = Experiments(interventions={real_world.name: Interventions(recoveries)})
    return next(iter(gather(Inputs(in_domain, [real_world], None, pd.DataFrame(), experiments)).values()))


def test_context_is_named_where_other_surroundings_recover_the_drop() -> None:
    assert domain_shift.assess(evidence(surroundings=0.8, colours=0.1)).kind == "context"
    assert domain_shift.assess(evidence(surroundings=0.1, colours=0.8)).kind == "appearance"
    # Both do: the one that recovers more.
    assert domain_shift.assess(evidence(surroundings=0.6, colours=0.9)).kind == "appearance"
    assessment = domain_shift.assess(replace(evidence(surroundings=0.8)))
    assert any("in-domain surroundings takes AP50" in o.text for o in assessment.observations)
