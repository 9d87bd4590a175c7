"""The answer for a target: calibrated ranks, expected accuracy and loss, verdict, and which images to label."""
