"""One module for each rule that runs on a GPU, and the loop that they share."""
