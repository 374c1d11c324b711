"""Benchmarks beside other engines: `python -m tests.bench --help`. Never part of the test run."""
