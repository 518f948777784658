"""`trunkside calls`: looks at the calls of a control plane from a terminal, over its API and the contract alone."""

from __future__ import annotations
