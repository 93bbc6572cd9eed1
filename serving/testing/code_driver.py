"""Runs the code that it is given, beside the packages of other projects' clients.

code_driver 'import tritonclient.http'
"""

import sys

if __name__ == "__main__":
    exec(compile(sys.argv[1], "page", "exec"))  # noqa: S102
