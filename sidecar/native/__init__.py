"""What is written in C because it runs for every packet. Everything here has a twin in Python that takes over where it was not built."""
