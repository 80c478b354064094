"""Models of pictures. Here so far: a residual network that says what a picture shows."""

from cairn.generative.classify import ImageClassification, VisionConfig, predict, score_classifier, train_classifier
from cairn.generative.cnn import CnnConfig, ImageClassifier
from cairn.generative.directory import load_classifier, save_classifier
from cairn.generative.images import ImageBatch, ImageData, Pictures, PictureSet, read_pictures

__all__ = [
    "CnnConfig",
    "ImageBatch",
    "ImageClassification",
    "ImageClassifier",
    "ImageData",
    "PictureSet",
    "Pictures",
    "VisionConfig",
    "load_classifier",
    "predict",
    "read_pictures",
    "save_classifier",
    "score_classifier",
    "train_classifier",
]
