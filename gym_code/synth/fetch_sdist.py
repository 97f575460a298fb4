"""Download one source distribution with pip's own finder, and run nothing of the package.

Run as a script: `python -I fetch_sdist.py NAME==VERSION DIRECTORY`. `pip download` would prepare the
metadata of an sdist, which executes its `setup.py` on this machine; pip's finder alone does not, and still
honours the user's indexes, mirrors, credentials, proxies and certificates. Prints the path of the archive.
Exit status 3: no such release; 4: the download does not have the hash that the index promised.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any


def main(requirement: str, directory: str) -> int:
    """Find the sdist of `NAME==VERSION`, store it under `directory`; the exit status."""
    from pip._internal.commands import create_command

    name, _, version = requirement.partition("==")
    command: Any = create_command("index")
    with command.main_context():
        options, _ = command.parse_args(["versions", name, "--no-binary", ":all:"])
        session = command._build_session(options)
        finder = command._build_package_finder(options=options, session=session)
        found = [c for c in finder.find_all_candidates(name) if not c.link.is_wheel]
        links = [c.link for c in found if str(c.version) == version]
        if not links:
            known = ", ".join(str(c.version) for c in found[-5:]) or "none"
            print(f"no sdist {requirement}; latest sdists: {known}", file=sys.stderr)
            return 3
        link = sorted(links, key=lambda item: (not item.filename.endswith(".tar.gz"), item.filename))[0]
        response = session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"})
        response.raise_for_status()
        content: bytes = response.content
    if link.hash_name and hashlib.new(link.hash_name, content).hexdigest() != link.hash:
        print(f"{link.filename}: {link.hash_name} differs from the index's", file=sys.stderr)
        return 4
    path = Path(directory) / Path(link.filename).name
    path.write_bytes(content)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
