"""Tests of the analysis process's core."""
