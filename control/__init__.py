"""Trunkside's control plane: takes traces and reports, links them, delivers them, shows them."""
