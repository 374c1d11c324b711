"""Running steps on the processor: the step driver, and the threads that help."""
