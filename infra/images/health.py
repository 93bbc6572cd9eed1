"""Whether the gateway of this container is ready: status 0, or 1 and why not."""

import sys
import urllib.error
import urllib.request

_READY = "http://127.0.0.1:8080/readyz"
_TIMEOUT_S = 4.0


def _main() -> None:
    try:
        with urllib.request.urlopen(_READY, timeout=_TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode(errors="replace").strip())
    except OSError as error:
        sys.exit(f"{_READY}: {error}")


if __name__ == "__main__":
    _main()
