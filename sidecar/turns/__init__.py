"""From the speech of both directions to turns, barge-ins and sums, in call time."""
