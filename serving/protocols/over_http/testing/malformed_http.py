"""What is wrong with HTTP itself, or with a request of another page than inference."""

import json
from collections.abc import Iterator

from serving.protocols.over_http.testing.malformed import PATH, Case, good, http

_BODY = json.dumps(good()).encode()


def http_cases() -> Iterator[Case]:
    """All of them."""
    yield from _paths()
    yield from _headers()
    yield from _no_http()
    yield from _predict()


def _paths() -> Iterator[Case]:
    for name, path, status, message in (
        ("another word", "/v2/model/digits/infer", 404, "there is no page '/v2/model/"),
        ("a slash at the end", f"{PATH}/", 404, "there is no page"),
        ("no name of a model", "/v2/models//infer", 404, "there is no page"),
        ("no UTF-8", "/v2/models/%ff/infer", 404, "there is no page"),
        ("the one above", "/v2/models/../infer", 404, "unknown model '..'; served here"),
        ("too many letters", "/" + "x" * 3000, 414, "the path is too long; expected at most 2048"),
    ):
        yield Case(f"a path with {name}", http(_BODY, path), status, message)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET", "PROPFIND"):
        message = f"'{method}' is not answered here; expected POST"
        yield Case(f"method {method}", http(_BODY, method=method), 405, message)
    message = "'POST' is not answered here; expected GET, HEAD"
    yield Case("method POST", http(_BODY, "/v2/models/digits"), 405, message)


def _headers() -> Iterator[Case]:
    for value in ("0", "-1", "x", "nan", "", "1.5", "1e3", "0x10", "1" * 16):
        message = "x-request-timeout-ms is '.*expected whole milliseconds from 1 to "
        request = http(_BODY, x_request_timeout_ms=value)
        yield Case(f"timeout {value!r}", request, 400, message)
    for encoding in ("br", "zstd", "compress", "gzip, gzip", "x"):
        message = "content-encoding '.*is not accepted; expected one of deflate, gzip, or none"
        yield Case(f"encoding {encoding!r}", http(_BODY, Content_Encoding=encoding), 415, message)
    for encoding in ("gzip", "deflate"):
        message = "the body is not compressed as it says"
        yield Case(f"no {encoding}", http(_BODY, Content_Encoding=encoding), 400, message)
    message = "the body is too large; expected at most 67,108,864 bytes"
    yield Case("a body too large", http(b"", length=2**26 + 1), 413, message)
    message = "requests of web pages of 'http://elsewhere.example' are not answered"
    yield Case("another origin", http(_BODY, Origin="http://elsewhere.example"), 403, message)


def _no_http() -> Iterator[Case]:
    start = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: h\r\n"
    for name, request, status, message in (
        ("another method", start.replace(b"POST", b"FOO") + b"\r\n", 400, "Invalid method"),
        ("no version", b"POST /v2 \r\nHost: h\r\n\r\n", 400, "Bad status line"),
        ("another version", b"GET /v2 HTTP/3.7\r\nHost: h\r\n\r\n", 400, "Bad status line"),
        ("something else", b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", 400, ""),
        ("no host", b"GET /v2 HTTP/1.1\r\n\r\n", 400, "Missing 'Host' header"),
        ("a space before a colon", start + b"A : b\r\n\r\n", 400, "Invalid header"),
        ("a header without a name", start + b": b\r\n\r\n", 400, "Invalid header"),
        ("a null in a header", start + b"A: a\x00b\r\n\r\n", 400, "Invalid header"),
        ("two lengths", start + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400, "Content"),
        ("a length that is none", start + b"Content-Length: 1x\r\n\r\nx", 400, "Content-Length"),
        (
            "a length and chunks",
            start + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "Content-Length|Transfer-Encoding",
        ),
        ("a long header", start + b"A: " + b"x" * 9000 + b"\r\n\r\n", 431, "expected lines of 819"),
        ("many headers", start + b"A: b\r\n" * 200 + b"\r\n", 400, "Too many headers"),
        ("no chunk", start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n", 400, "chunk"),
        ("another coding", start + b"Transfer-Encoding: br\r\n\r\nx", 400, "Transfer-Encoding"),
    ):
        yield Case(f"HTTP with {name}", request, status, message)


def _predict() -> Iterator[Case]:
    shape = r"input 'image' has lists of the shape \[3\]; expected one example of the shape \[8, 8"
    for name, request, status, message in (
        ("an empty object", {}, 400, 'expected either {"image": '),
        ("an image", {"image": "aGVsbG8="}, 400, "does not say how an image becomes its input; "),
        ("another model", {"inputs": [1], "model": "letters"}, 404, "unknown model 'letters'"),
        ("another version", {"inputs": [1], "version": "2"}, 404, "unknown version '2'"),
        ("another key", {"instances": [1]}, 400, "unknown key 'instances'; accepted: image, inp"),
        ("three numbers", {"inputs": [1, 2, 3]}, 400, shape),
        ("text", {"inputs": ["a"] * 64}, 400, "the element a string; expected numbers for FP32"),
    ):
        yield _predict_case(name, json.dumps(request).encode(), status, message)
    yield _predict_case("nothing", b"", 400, "the request is no JSON that is accepted here")


def _predict_case(name: str, body: bytes, status: int, message: str) -> Case:
    return Case(f"predict: {name}", http(body, "/predict"), status, message)
