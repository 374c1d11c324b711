"""Timing a network, beside other programs that run it, and layer by layer beside what the machine can do."""
