"""Images, arrays and data sets: reading, preprocessing, augmentation, batches."""

from __future__ import annotations

from cnnc.data.dataset import Dataset
from cnnc.data.images import label_names, load_image, load_images, load_input

__all__ = ["Dataset", "label_names", "load_image", "load_images", "load_input"]
