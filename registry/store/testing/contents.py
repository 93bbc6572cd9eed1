"""What lies in a store, asked of the file system and of the server themselves."""

import os
from pathlib import Path

import boto3


def contents(url: str) -> dict[str, bytes]:
    """Returns each file of a store, hidden ones too, by its key."""
    if not url.startswith("s3://"):
        return {key: Path(url, key).read_bytes() for key in keys_of(url)}
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    bodies = {key: client.get_object(Bucket=bucket, Key=f"{prefix}/{key}") for key in keys_of(url)}
    return {key: found["Body"].read() for key, found in bodies.items()}


def keys_of(url: str) -> set[str]:
    """Returns the key of each file of a store, hidden ones too."""
    if not url.startswith("s3://"):
        found = [Path(folder, name) for folder, _, names in os.walk(url) for name in names]
        return {path.relative_to(url).as_posix() for path in found}
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    paginator = boto3.client("s3").get_paginator("list_objects_v2")
    pages = paginator.paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key.removeprefix(f"{prefix}/") for key in keys}


def uploads_of(url: str) -> set[str]:
    """Returns the key of each upload in parts to a bucket's store that was not completed."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    found = boto3.client("s3").list_multipart_uploads(Bucket=bucket, Prefix=f"{prefix}/")
    return {each["Key"].removeprefix(f"{prefix}/") for each in found.get("Uploads", ())}
