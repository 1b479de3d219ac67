"""Tables, plots and pages from the small files of the other stages; nothing here computes a result."""
