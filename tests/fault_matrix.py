"""The faults that a run survives, as docs/reliability.md holds them and tests/rules/test_fault_matrix.py tries them.

python tests/fault_matrix.py
"""

# What happens, what the workflow does, and how many results (pairs, accuracies) are computed a second time.
ROWS = (
    ("SIGKILL of a job", "tried again with more memory, from the first unfinished pair on", 0),
    ("SIGTERM, SIGHUP or SIGINT to a job", "its lease is given back; tried again", 0),
    ("power lost twice during a pair", "the host has started anew, so it does not count against the pair", 0),
    ("store full (ENOSPC)", "the job says where and fails without half a file; the next attempt finds room", 1),
    ("results folder full (ENOSPC)", "likewise", 1),
    ("a result cannot be read for a moment (EIO)", "the job that reads it says so and fails; the file stays", 0),
    ("no file locks (ENOLCK), no hard links (EPERM)", "neither is needed", 0),
    (
        "Ctrl-C or a closed terminal (SIGINT or SIGHUP to the head and its jobs)",
        "jobs end and give back what they were at",
        0,
    ),
    ("SIGTERM to the head", "no new jobs; running ones are waited for", 0),
    ("SIGKILL of the head", "its job goes on; the next run waits for what that has taken on", 0),
    ("a pair in results truncated, garbage, empty, or with a flipped bit", "dropped, and copied from the store", 0),
    ("the same, with the time it had before", "likewise: its inode has another time", 0),
    ("an alignment or divergence damaged, a card changed", "dropped and made anew", 0),
    ("a result that is a link to nothing, or gone", "made anew", 0),
    ("an entry of the store truncated, garbage, empty, or with a flipped bit", "dropped and computed anew", 1),
    ("results deleted", "pairs and accuracies are copied from the store", 0),
    ("store deleted", "nothing to be done; what a later job needs is put back from results", 0),
    ("two runs on one store at once", "each result is computed by one of them, the other waits", 0),
    ("files an hour ahead or behind", "gathers are made anew", 0),
)


def table() -> str:
    """The matrix in Markdown."""
    lines = ["| what happens | what the workflow does | computed a second time |", "| --- | --- | --- |"]
    lines += [f"| {fault} | {what} | {'that result' if again else 'nothing'} |" for fault, what, again in ROWS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
