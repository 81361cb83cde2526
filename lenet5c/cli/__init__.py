"""The command lenet5c."""
