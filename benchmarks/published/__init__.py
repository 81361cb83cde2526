"""What `lenet5_1998.py` is made of: networks, trainings, the page."""
