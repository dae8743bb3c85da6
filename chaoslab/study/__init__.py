"""Do the intervals cover? A study of the estimators on recordings whose truth is known.

    python -m chaoslab.study --trials 2000 --output data/coverage

This is the one place where recordings are made up, and nothing else reads them: a campaign is drawn from a process with
a known mean, median or quantile (`truths`), written as Parquet and read back as any campaign is, measured and estimated
by the code that every report uses, and each interval is held against the truth (`coverage`).
"""
