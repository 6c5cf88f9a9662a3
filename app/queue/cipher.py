"""AES-256-GCM as sealing.py uses it. Apart, since a process that sees no sealed payload spares 6 MB."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def encrypt(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    """Ciphertext and tag; `bound` is authenticated beside it."""
    return AESGCM(key).encrypt(nonce, plain, bound)


def decrypt(key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes:
    """The plain text. Raises ValueError for what does not fit the key."""
    try:
        return AESGCM(key).decrypt(nonce, data, bound)
    except InvalidTag:
        raise ValueError("does not fit its key") from None
