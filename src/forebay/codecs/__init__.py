"""Values to bytes and back. Every codec gives back what it was given, or refuses it before anything is sent."""
