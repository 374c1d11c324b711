"""Training: optimizers, schedules, the Trainer, and whole runs with checkpoints."""

from __future__ import annotations

from cnnc.train.loop import Interrupted, Result, train
from cnnc.train.named import loss, start
from cnnc.train.optimizers import adadelta, adagrad, adam, adamw, rmsprop, sgd
from cnnc.train.starts import lsuv
from cnnc.train.trainer import Trainer

__all__ = [
    "Interrupted",
    "Result",
    "Trainer",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "loss",
    "lsuv",
    "rmsprop",
    "sgd",
    "start",
    "train",
]
