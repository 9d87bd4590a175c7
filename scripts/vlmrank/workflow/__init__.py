"""What Snakemake's rules need from the library before any job runs: checks, hashes, resources, logs."""
