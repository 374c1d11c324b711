"""The command line: `main.py` the group and its errors, `common.py` what commands share, then one command a file."""
