"""`trunkside verify`: one test call towards a SIP URI that explains what it meets, step by step. Needs no running sidecar."""
