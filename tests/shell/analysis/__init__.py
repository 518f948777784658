"""Tests of the analysis process itself."""
