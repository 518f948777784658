"""Who speaks when in one direction: a detector over frames in media time, and boundaries refined on the audio itself."""
