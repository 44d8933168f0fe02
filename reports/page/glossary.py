"""Words of the page, explained."""

from __future__ import annotations

GLOSSARY = (
    (
        "AP50",
        "Average precision: the area under the precision-recall curve as the confidence threshold falls, where a detection counts as right if it overlaps an object of its class with IoU 0.5 or more. It is not a share of overlaps and not an accuracy; 1 is perfect.",
    ),
    ("AP", "The same, averaged over overlaps required from 0.5 to .95."),
    ("IoU", "Intersection over union of two boxes: shared area over covered area."),
    (
        "Box loss",
        "A regression loss on the corners of boxes while training. It falls when boxes fit better; it is not a rate of wrong boxes.",
    ),
    (
        "Maximum recall",
        "Share of objects found when every box down to confidence 0.001 counts: does it see them at all?",
    ),
    (
        "95 % interval",
        "Would contain the true value for 95 of 100 such samples of clips. Frames of one clip are one observation, so clips are drawn, not frames.",
    ),
    (
        "Group, clip",
        "Images that belong together: frames of one video, one recording session, copies of one original.",
    ),
    (
        "MMD",
        "Maximum mean discrepancy: a distance between two sets of embeddings. Only its ratio to what two halves of the home data give means anything.",
    ),
    (
        "Domain AUC",
        "How well a classifier tells the two sets apart on clips it has not seen: 0.5 not at all, 1 always.",
    ),
    (
        "D-ECE",
        "Mean difference between the confidence a detector states and the share of its detections that are right.",
    ),
    (
        "LaECE",
        "The same, with how well boxes fit counted too: a right detection counts as its IoU, not as 1.",
    ),
    (
        "Frechet distance",
        "Another distance between two sets of embeddings, of their means and spreads. It grows as samples shrink, so both sides are taken at one size.",
    ),
    (
        "Null",
        "What a number would be if nothing differed: here, what two halves of the home data give.",
    ),
    (
        "Intervention",
        "The same footage shown to the detector in another way, larger or in other colours, say, to see what that recovers.",
    ),
    (
        "Foreshortening",
        "What lies flat on the ground looks squashed from a low camera, and does not from above.",
    ),
    (
        "Home, in-domain",
        "Both are the images the detector was validated on; the real world, in the real world, is the footage it is for.",
    ),
    (
        "Background image",
        "An image labelled as holding no object. An image without a label file is unlabelled, which is something else.",
    ),
)


LIMITS = (
    "Without labels, a change in what counts as an object cannot be seen.",
    "One video is one sample, however many frames it has.",
    "A hypothesis is ruled out or supported for the images given here; other footage may differ.",
)
