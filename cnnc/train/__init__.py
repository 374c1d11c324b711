"""Training: optimizers, schedules, the Trainer, and whole runs with checkpoints."""

from __future__ import annotations

from cnnc.train.loop import Interrupted, Result, train
from cnnc.train.optimizers import adadelta, adam, sgd
from cnnc.train.starts import lsuv, start
from cnnc.train.trainer import Trainer

__all__ = ["Interrupted", "Result", "Trainer", "adadelta", "adam", "lsuv", "sgd", "start", "train"]
