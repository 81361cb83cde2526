"""What is looked at: plots and the page of a model."""
