"""What comes in: facts from sidecars, reports and traces from agents. Everything is stored before it is answered."""

from __future__ import annotations
