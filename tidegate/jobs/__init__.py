"""Jobs: their values, the guarded UPDATEs that move them between states, and how they are read, cancelled, erased."""
