"""Nothing that tests compare depends on timed runs: tests of those ask for them."""

import os

os.environ["CNNC_TUNE"] = "0"
