"""What lies in a store, asked of the file system and of the server themselves."""

import os
from pathlib import Path

import boto3


def contents(url: str) -> dict[str, bytes]:
    """Returns each file of a store, hidden ones and uploads in parts too, by its key."""
    if not url.startswith("s3://"):
        return {
            path.relative_to(url).as_posix(): path.read_bytes()
            for path in (Path(folder, name) for folder, _, names in os.walk(url) for name in names)
        }
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{prefix}/"
    ):
        for each in page.get("Contents", ()):
            body = client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            found[each["Key"].removeprefix(f"{prefix}/")] = body
    uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=f"{prefix}/").get("Uploads", ())
    return found | {f"upload of {upload['Key']}": b"" for upload in uploads}
