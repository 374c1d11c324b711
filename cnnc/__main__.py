"""`python -m cnnc`."""

from cnnc.cli.main import main

if __name__ == "__main__":
    main()
