"""What the tests of the promises are made of; nothing in here is part of the package."""
