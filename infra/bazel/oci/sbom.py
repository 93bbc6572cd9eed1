"""What is in an image, as SPDX 2.3 in JSON.

References: the SPDX specification 2.3; package-url's types `deb` and `pypi`. Scanners look
vulnerabilities of Debian up by release and source package, which a URL says by `distro` and, as
syft writes and grype reads it, `upstream`.
"""

import re
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from infra.bazel.oci.parts import Part

_CREATED = "1970-01-01T00:00:00Z"

# The package of Debian whose version is that of the release.
_RELEASE = "base-files"


def document(name: str, digest: str, parts: Sequence[Part]) -> dict[str, Any]:
    """Returns the document of an image.

    Args:
        name: Of the image.
        digest: Of its manifest, "sha256:...".
        parts: What is in it.
    """
    image = {
        "SPDXID": "SPDXRef-image",
        "name": name,
        "versionInfo": digest,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    (release,) = {_release(part) for part in parts if part.name == _RELEASE} or {""}
    packages = [_package(part, release) for part in sorted(set(parts))]
    contains = [
        {
            "spdxElementId": image["SPDXID"],
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": package["SPDXID"],
        }
        for package in packages
    ]
    described = {
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": image["SPDXID"],
    }
    return {
        "SPDXID": "SPDXRef-DOCUMENT",
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "name": name,
        # The same of the same image, and of no other.
        "documentNamespace": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "creationInfo": {"created": _CREATED, "creators": ["Tool: oci_image"]},
        "packages": [image, *packages],
        "relationships": [described, *contains],
    }


def _release(base_files: Part) -> str:
    """Which Debian it is, as scanners call it: "debian-12"."""
    return f"debian-{re.split('[^0-9]', base_files.version)[0]}"


def _url(part: Part, release: str) -> str:
    if part.kind == "pypi":
        return f"pkg:pypi/{re.sub(r'[-_.]+', '-', part.name).lower()}@{quote(part.version)}"
    qualifiers = {"distro": release, "upstream": part.source}
    told = "&".join(f"{key}={quote(value)}" for key, value in qualifiers.items() if value)
    url = f"pkg:deb/debian/{quote(part.name)}@{quote(part.version)}"
    return f"{url}?{told}" if told else url


def _package(part: Part, release: str) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-{part.kind}-{re.sub(r'[^A-Za-z0-9.-]', '-', part.name)}",
        "name": part.name,
        "versionInfo": part.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": _url(part, release),
            }
        ],
    }
