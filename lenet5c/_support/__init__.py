"""For every room: the choice of a core, threads, checks of arguments, progress."""
