"""The words of the page, explained, and what a report cannot show."""

from __future__ import annotations

GLOSSARY = (
    (
        "AP50",
        "Average precision at IoU 0.5: the area under the precision-recall curve as the confidence "
        "threshold falls. "
        "A detection counts as correct if it overlaps an annotation of its class with an IoU of 0.5 or "
        "more. 1 is perfect.",
    ),
    ("AP", "The same, averaged over IoU thresholds from 0.5 to 0.95 (mAP50-95)."),
    ("Annotation", "A labelled box (ground truth)."),
    (
        "Background image",
        "An image labelled as holding no object. An image without a label file is unlabelled.",
    ),
    (
        "Box loss",
        "A regression loss on box corners during training. It falls as boxes fit better; it is not a rate "
        "of wrong boxes.",
    ),
    (
        "Contribution",
        "The part of the AP50 drop that one intervention recovers: its mean gain over all orders of "
        "applying the "
        "interventions (Shapley value), so that contributions add up.",
    ),
    ("Detection", "A box the detector gives, with a class and a confidence."),
    ("Detection rate", "Share of images with at least one detection at confidence 0.25 or above."),
    ("D-ECE", "Mean difference between the confidence of detections and the share of them that is correct."),
    (
        "Domain AUC",
        "How well a classifier separates the two image sets on clips it was not trained on: 0.5 not at "
        "all, 1 always.",
    ),
    (
        "Estimated AP50 (label-free)",
        "AP50 estimated without labels, from detections on corrupted in-domain images whose AP50 is known.",
    ),
    ("Foreshortening", "Flat objects on the ground look squashed from a low camera, and not from above."),
    (
        "Frechet distance",
        "A distance between the means and covariances of two sets of embeddings. It grows as samples "
        "shrink, so both "
        "sides are taken at one size.",
    ),
    (
        "Group, clip",
        "Images that belong together: frames of one video, one recording session, copies of one original.",
    ),
    (
        "In-domain, real-world",
        "The images the detector was validated on, and the images it is for. A domain has one of these "
        "roles.",
    ),
    (
        "In-domain reference",
        "The value that two random halves of the in-domain clips give for the same measure: what no shift "
        "looks like.",
    ),
    (
        "Intervention",
        "Inference on changed real-world images (larger, in tiles, in other colours, squeezed) to measure "
        "what that recovers.",
    ),
    ("IoU", "Intersection over union of two boxes: shared area over covered area."),
    ("LaECE", "As D-ECE, but a correct detection counts as its IoU instead of 1, so that loose boxes cost."),
    ("Maximum recall", "Share of annotations detected when every detection down to confidence 0.001 counts."),
    (
        "MMD",
        "Maximum mean discrepancy, a distance between two sets of embeddings; compare it with its reference.",
    ),
    (
        "95 % interval",
        "Contains the true value for 95 of 100 such samples of clips. Frames of one clip are one "
        "observation, so clips "
        "are resampled, not frames.",
    ),
    (
        "Weak slice",
        "A combination of attributes, found by search, with more errors than the rest of its domain.",
    ),
)
LIMITS = (
    "Without labels, a different definition of what counts as an object cannot be measured.",
    "One video is one sample, however many frames it has.",
    "A hypothesis is supported or ruled out for the images given here; other footage may differ.",
)
