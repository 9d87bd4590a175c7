"""One module for each rule that runs on a GPU."""
