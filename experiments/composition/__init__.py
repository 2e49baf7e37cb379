"""What the product of two maps does that their sum does not."""
