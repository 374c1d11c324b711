"""Normalization by the mean and the variance of a part of each image, and its gradient."""
