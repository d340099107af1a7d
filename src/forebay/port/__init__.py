"""What a core may ask of the outside world, and the two ways of answering: awaiting it, or doing it at once."""
