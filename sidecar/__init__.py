"""Trunkside's sidecar: the B2BUA, the media tap and the reporter that stand beside a voice agent's SIP edge."""
