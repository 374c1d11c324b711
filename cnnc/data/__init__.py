"""Images, arrays and data sets: `images` reads pictures, `dataset` sets of them, `augment` varies them."""
