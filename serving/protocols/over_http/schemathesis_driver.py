"""Runs schemathesis, another project's tester of documented APIs, as its command line does.

A program of its own, with other packages than ours. It imports nothing of ours.

schemathesis_driver run URL [OPTIONS]
"""

from schemathesis.cli import schemathesis

if __name__ == "__main__":
    schemathesis()
