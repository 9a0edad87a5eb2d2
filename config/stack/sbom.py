"""Adds what is no Python package to the software bill of materials (SBOM, CycloneDX): the client, Docker images.

`make sbom` runs it: `python config/stack/sbom.py packages.json > sbom.json`, in the folder of the sources.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

# `ARG STACK_PYTHON_IMAGE=python:3.13.15` of the Dockerfile, `${STACK_REDIS_IMAGE:-redis:8.8.3}` of docker-compose.yml;
# not STACK_IMAGE, which is the image that the bill is about.
_IMAGE = re.compile(r"\bSTACK_(?!IMAGE\b)\w+(?:=|:-)(?P<name>[a-z0-9./-]+):(?P<version>[\w.-]+)")


def images(*texts: str) -> list[dict[str, Any]]:
    """The Docker images that these texts name, each once, as components."""
    found = {(match["name"], match["version"]) for text in texts for match in _IMAGE.finditer(text)}
    return [
        {
            "type": "container",
            "bom-ref": f"image-{name}",
            "name": name,
            "version": version,
            "purl": f"pkg:docker/{name}@{version}",
        }
        for name, version in sorted(found)
    ]


def client(pyproject: str) -> dict[str, Any]:
    """The client with the command line, whose copy is in the image, as a component."""
    project = tomllib.loads(pyproject)["project"]
    return {
        "type": "library",
        "bom-ref": project["name"],
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"license": {"id": project["license"], "acknowledgement": "declared"}}],
    }


def completed(bom: dict[str, Any], *further: dict[str, Any]) -> dict[str, Any]:
    """The bill with these further components, all of which its root depends on."""
    root = bom["metadata"]["component"]["bom-ref"]
    parts = [*bom["components"], *further]
    for part in parts:
        part.pop("description", None)  # the requirements' line with its hashes, which the part also has as such
    others = [each for each in bom["dependencies"] if each["ref"] != root]
    new = [{"ref": part["bom-ref"]} for part in further]
    direct = {"ref": root, "dependsOn": sorted(part["bom-ref"] for part in parts)}
    return {**bom, "components": parts, "dependencies": [direct, *others, *new]}


def main(packages: Path) -> None:
    """Writes the completed bill to standard output."""
    texts = [Path(name).read_text(encoding="utf-8") for name in ("Dockerfile", "docker-compose.yml")]
    own = client(Path("client/pyproject.toml").read_text(encoding="utf-8"))
    bom = json.loads(packages.read_text(encoding="utf-8"))
    json.dump(completed(bom, own, *images(*texts)), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
