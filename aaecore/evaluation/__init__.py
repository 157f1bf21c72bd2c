"""What models are worth: figures of the paper, trained and ready to draw."""
