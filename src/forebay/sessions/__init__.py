"""Sessions: a user's state between requests, that ends when it must and never comes back."""
