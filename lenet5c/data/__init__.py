"""What comes in: data sets, pictures, tables, augmentation, the input stage."""
