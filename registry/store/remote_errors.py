"""One line for what a cloud, or a library that speaks to it, does not do.

The libraries have no error in common, so errors are known by the names of their types, of which no
library has to be imported.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import ArtifactError, StoreError

_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "NoRegionError",
    "DefaultCredentialsError",
    "RefreshError",
    "ClientAuthenticationError",
    "CredentialUnavailableError",
)
_UNREACHABLE = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ClientConnectorError",
    "ServiceRequestError",
    "ServiceResponseError",
    "ConnectionError",
    "TimeoutError",
    "FSTimeoutError",
)
_INVALID_NAME = ("ParamValidationError", "InvalidBucketName")

# How each cloud's own tools are told who one is.
_ADVICE = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    "az": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and a key",
}
_ENDPOINTS = {
    "s3": "check the network, and AWS_ENDPOINT_URL if the server is your own",
    "gs": "check the network, and STORAGE_EMULATOR_HOST if the server is your own",
}


@contextmanager
def telling(url: str, action: str) -> Iterator[None]:
    """Makes a StoreError of one line of whatever is raised within.

    Args:
        url: Of the store.
        action: What was tried: "read", "write" or "open".
    """
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # they have no narrower type in common
        raise StoreError(f"cannot {action} the store {url}: {_in_words(url, error)}") from error


def creates_nothing(error: Exception) -> bool:
    """Whether an error says that the key to be created exists."""
    return isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412")


def is_conflict(error: Exception) -> bool:
    """Whether an error says that another writer is at the same key, so that one asks again."""
    return _code(error) in ("ConditionalRequestConflict", "OperationAborted", "409")


def _in_words(url: str, error: Exception) -> str:
    scheme = url.partition("://")[0]
    kinds = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, ImportError):
        return f"{said}; install what speaks to it"
    if kinds & set(_CREDENTIALS):
        return f"{said}; {_ADVICE.get(scheme, 'give credentials')}"
    if isinstance(error, FileNotFoundError):
        return f"{said}; does the bucket exist?"
    if isinstance(error, PermissionError):
        return f"{said}; your credentials do not permit it: {_ADVICE.get(scheme, 'give others')}"
    if kinds & set(_INVALID_NAME):
        return f"{said}; no bucket can have that name"
    if kinds & set(_UNREACHABLE):
        return f"{said}; {_ENDPOINTS.get(scheme, 'check the network')}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{error.filename}: {error.strerror}; make room, then try again"
    if scheme == "az" and isinstance(error, ValueError):
        return f"{said}; {_ADVICE['az']}"
    return f"{said} ({type(error).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _code(error: Exception) -> str:
    """Returns what S3 calls an error; '' for one of another server."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    return str(response["Error"].get("Code", "")) if isinstance(response, dict) else ""
