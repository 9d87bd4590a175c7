"""From scores to an answer: calibrated ranks, expected accuracy and loss, the verdict, and which images to label."""
