"""Other forms of a trained network: C source, 8-bit integers, a page to draw on."""
