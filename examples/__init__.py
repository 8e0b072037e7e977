"""Example networks: definitions, data sets and training. `python -m examples.train --help`."""
