"""Training: optimizers, schedules, the Trainer, and whole runs with checkpoints."""

from __future__ import annotations

from cnnc.train.loop import Interrupted, Result, train
from cnnc.train.named import loss, start
from cnnc.train.optimizers import adadelta, adam, sgd
from cnnc.train.starts import lsuv
from cnnc.train.trainer import Trainer

__all__ = ["Interrupted", "Result", "Trainer", "adadelta", "adam", "loss", "lsuv", "sgd", "start", "train"]
