"""What the notebooks share: setting up, showing, playing, checking, and the doctor."""
