"""What is in an image, as SPDX 2.3 in JSON.

Reference: the SPDX specification 2.3, and package-url's types `deb` and `pypi`.
"""

import re
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

_CREATED = "1970-01-01T00:00:00Z"


def document(name: str, digest: str, parts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns the document of an image.

    Args:
        name: Of the image.
        digest: Of its manifest, "sha256:...".
        parts: What is in it: "deb" or "pypi", name and version of each.
    """
    image = {
        "SPDXID": "SPDXRef-image",
        "name": name,
        "versionInfo": digest,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    packages = [_package(*part) for part in sorted({tuple(part) for part in parts})]
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


def _package(kind: str, name: str, version: str) -> dict[str, Any]:
    vendor = "debian/" if kind == "deb" else ""
    known_as = name if kind == "deb" else re.sub(r"[-_.]+", "-", name).lower()
    locator = f"pkg:{kind}/{vendor}{quote(known_as)}@{quote(version)}"
    return {
        "SPDXID": f"SPDXRef-{kind}-{re.sub(r'[^A-Za-z0-9.-]', '-', name)}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": locator,
            }
        ],
    }
