"""How an answer is judged against onnxruntime's. A Verdict has the worst difference, the bar, and what failed."""
from dataclasses import dataclass

import numpy as np

FLOAT_BAR = 1e-4         # max|difference| over max|reference|
QUANTISED_BAR = 2e-2     # int8 networks: one step of rounding in an early layer moves the result that far
QUANTISED = ("resnet50_qdq_s8s8", "resnet50_qdq_u8s8")
CLASSIFIERS = ("digits", "efficientnet_b0", "kws_dscnn", "mnist_cnn", "mobilenet_v2", "resnet50", "resnet50_dynamo",
               "squeezenet1_1", "vgg16", "vit_b_16")

# Networks that end in non-maximum suppression, whose ties may fall either way: the side of the image in pixels.
DETECTORS = {"yolo_like_nms_320": 320, "ssdlite320_mobilenet_v3": 320}
DETECTION_SCORE = 1e-5   # scores this close are the same; detections this close to the last one kept may drop out
DETECTION_BOX = 1e-3     # of the image's side
DETECTION_SHARE = 0.95
# Random weights give 3,234 anchors scores of 0.01 to 0.02: which box is kept hangs on their last bits. onnxruntime with
# and without optimizations disagrees with itself in 3 %, other orders of our sums moved 3 to 11 %. Its two halves are
# judged apart (tests/suites/models.py): the tensors before the suppression by FLOAT_BAR, and all detections that
# come of onnxruntime's own tensors.
CHAOTIC = {"ssdlite320_mobilenet_v3": 0.85}


@dataclass
class Verdict:
    measure: str          # what `worst` is
    worst: float
    bar: float
    failure: str = ""     # empty when all is well


def relative_difference(got, want):
    """max|got - want| / max|want|; infinite where NaN or Inf stand in other places."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)) or not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = np.abs(want[finite]).max()
    return float(np.abs(got[finite] - want[finite]).max() / (scale or 1.0))


def compare_tensors(name, got, want):
    """got, want: {output name: array}, in the same order."""
    bar = QUANTISED_BAR if name in QUANTISED else FLOAT_BAR
    verdict = Verdict("max diff / max ref", 0.0, bar)
    for key, reference in want.items():
        answer = got[key]
        if answer.shape != reference.shape or answer.dtype != reference.dtype:
            verdict.failure = (f"{key}: {answer.dtype}{list(answer.shape)}, expected "
                               f"{reference.dtype}{list(reference.shape)}")
            return verdict
        if np.issubdtype(reference.dtype, np.floating):
            difference = relative_difference(answer, reference)
            verdict.worst = max(verdict.worst, difference)
            if not difference <= bar:
                verdict.failure = f"{key}: differs by {difference:.3g} of the largest value, the bar is {bar:g}"
            if name in CLASSIFIERS and not np.array_equal(answer.argmax(-1), reference.argmax(-1)):
                verdict.failure = f"{key}: label {answer.argmax(-1)}, expected {reference.argmax(-1)}"
        elif not np.array_equal(answer, reference):
            verdict.failure = f"{key}: {int((answer != reference).sum())} of {reference.size} values differ"
    return verdict


def detections(arrays):
    """(boxes [n,4], scores [n], labels [n]) of a detector's outputs, told apart by dtype and rank."""
    boxes = next(a for a in arrays if a.ndim == 2)
    scores = next(a for a in arrays if a.ndim == 1 and np.issubdtype(a.dtype, np.floating))
    labels = next((a for a in arrays if a.ndim == 1 and np.issubdtype(a.dtype, np.integer)),
                  np.zeros(len(scores), np.int64))
    return boxes, scores, labels


def compare_detections(name, got, want, share=None):
    """The share of onnxruntime's detections, without those that tie with the last one kept, that have a twin of
    their own among ours."""
    boxes, scores, labels = detections(list(got.values()))
    want_boxes, want_scores, want_labels = detections(list(want.values()))
    share = share or CHAOTIC.get(name, DETECTION_SHARE)
    verdict = Verdict("detections without a twin", 0.0, 1 - share)
    if not len(boxes) == len(scores) == len(labels) or boxes.shape[1:] != (4,):
        verdict.worst, verdict.failure = 1.0, f"boxes {boxes.shape}, scores {scores.shape}, labels {labels.shape}"
        return verdict
    free = np.ones(len(scores), bool)
    sure = np.flatnonzero(want_scores > want_scores.min() + DETECTION_SCORE)
    n_found = 0
    for i in sure:
        twin = free & (labels == want_labels[i])
        twin &= np.abs(scores - want_scores[i]) <= DETECTION_SCORE
        twin &= np.abs(boxes - want_boxes[i]).max(axis=1) <= DETECTION_BOX * DETECTORS[name]
        if twin.any():
            free[np.flatnonzero(twin)[0]] = False
            n_found += 1
    verdict.worst = 1 - n_found / len(sure)
    if n_found < share * len(sure):
        verdict.failure = f"{n_found} of {len(sure)} detections have a twin, the bar is {share:.0%}"
    return verdict


def compare(name, got, want):
    """Judges the outputs {name: array} of the model `name` by its own rule."""
    if list(got) != list(want):
        return Verdict("outputs", 1.0, 0.0, f"outputs {list(got)}, expected {list(want)}")
    return compare_detections(name, got, want) if name in DETECTORS else compare_tensors(name, got, want)
