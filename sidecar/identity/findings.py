"""What can be wrong with an identity at the door: a closed set of names, the same in the verdict, in metrics and in logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

FindingName = Literal[
    "call_id_malformed",
    "call_id_too_long",
    "call_id_in_use",
    "claim_disagrees",
    "claim_stripped",
    "correlation_duplicate",
    "correlation_contradictory",
    "correlation_malformed",
    "carriage_none",
    "carriage_too_long",
]
FINDINGS: frozenset[str] = frozenset(get_args(FindingName))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was not as it should be. `detail` is fit for a log: correlation tokens appear in it only as a hash."""

    name: FindingName
    detail: str
