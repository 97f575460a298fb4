"""Images of instances: found, loaded, pulled or built when they are needed; removed under a cap.

`use.py` is what a run works with. `sources.py` and `fetch.py` bring an image, `shelves.py` is
where images lie, `ledger.py` notes what was brought, and `disk.py` evicts it.
"""

from __future__ import annotations

from gym_code.evaluate.images.disk import collect
from gym_code.evaluate.images.use import Image, Images

__all__ = ["Image", "Images", "collect"]
