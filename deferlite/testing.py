"""For the test suites of applications: ``inline()`` and ``capture()``. See ``deferlite.sdk.testing``."""

from deferlite.sdk.testing import CapturedQueue, Enqueued, capture, inline

__all__ = ["CapturedQueue", "Enqueued", "capture", "inline"]
