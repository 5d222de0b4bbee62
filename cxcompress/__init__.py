"""cxcompress: small, fast chest X-ray and pathology networks, and proof of what that costs."""

__version__ = "0.1.0"
