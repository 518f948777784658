"""How true the measured figures are: labelled conversations through lines that misbehave, scored against what really was said when."""
