"""Whether the Task Service is clearly worse than the monolith in the same minutes: two named tests, from `math` alone.

Both are one-sided and exact, so they need no table and no large-sample approximation, and neither can be fooled by the
5 % canary having a nineteenth of the monolith's requests.
"""

from __future__ import annotations

from math import comb, exp, lgamma


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def fisher_exact(events: int, total: int, other_events: int, other_total: int) -> float:
    """P-value of Fisher's exact test, one-sided: ``events`` of ``total`` are more than ``other_events`` of ``other_total``.

    The tail of the hypergeometric distribution with both margins fixed (R. A. Fisher, The Design of Experiments, 1935,
    section 12). Chosen over the two-proportion z-test, as errors are few and its normal approximation is then wrong.

    Raises:
        ValueError: more events than requests.
    """
    if not 0 <= events <= total or not 0 <= other_events <= other_total:
        raise ValueError(f"{events} of {total} and {other_events} of {other_total}: more events than requests")
    everyone, marked = total + other_total, events + other_events
    whole = _log_choose(everyone, total)
    tail = sum(
        exp(_log_choose(marked, count) + _log_choose(everyone - marked, total - count) - whole)
        for count in range(events, min(marked, total) + 1)
    )
    return min(1.0, tail)


def sign_test(worse: int, pairs: int) -> float:
    """P-value of the sign test, one-sided: so many of ``pairs`` periods came out worse, when worse and not were as likely.

    The upper tail of the binomial distribution with p = 1/2 (W. J. Dixon and A. M. Mood, 'The statistical sign test', 1946).
    A period counts as worse only past a margin, and ties count as not worse, so it is conservative. It needs nothing but
    one percentile a side and period, which is all that CloudWatch gives of latencies.

    Raises:
        ValueError: more periods worse than there are.
    """
    if not 0 <= worse <= pairs:
        raise ValueError(f"{worse} of {pairs} periods: more than there are")
    return float(sum(comb(pairs, count) for count in range(worse, pairs + 1)) / 2**pairs)
