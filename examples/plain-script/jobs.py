"""No dependencies and no files but this one."""

import hashlib

from deferlite import defer


@defer
def checksum(text: str, algorithm: str = "sha256") -> str:
    """The digest of a text, in hex."""
    return hashlib.new(algorithm, text.encode()).hexdigest()


if __name__ == "__main__":
    print(checksum.run("hello"))
