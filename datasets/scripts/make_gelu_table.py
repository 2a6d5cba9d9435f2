"""Make `datasets/exact/gelu_table.bin`: the part of GELU that the integer encoder looks up.

    python3 datasets/scripts/make_gelu_table.py

514 little-endian i32. Entry i is the integer nearest to 2^15 a (1 - Phi(a)) with a = i / 64 and Phi the standard normal
distribution function; the last entry is 0 and is never interpolated from. Only the standard library, in decimals of 120 digits:
the same bytes at every run.
"""

import struct
from decimal import ROUND_HALF_UP, Decimal, getcontext
from pathlib import Path

getcontext().prec = 120
ENTRIES = 513
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")


def half_minus(a):
    """Phi(a) - 1/2 by its power series: sum of (-1)^n a^(2n+1) / (2^n n! (2n+1)), over sqrt(2 pi)."""
    # The terms grow to about e^(a^2 / 2), 10^14 at a = 8, before they fall: 120 digits leave more than enough.
    term, total, n = a, a, 0
    while abs(term) > Decimal(10) ** -80:
        n += 1
        term = -term * a * a / (2 * n)
        total += term / (2 * n + 1)
    return total / (2 * PI).sqrt()


def main():
    """Compute and write."""
    table = []
    for i in range(ENTRIES):
        a = Decimal(i) / 64
        exact = a * (Decimal("0.5") - half_minus(a)) * 32768
        table.append(int(exact.quantize(Decimal(1), ROUND_HALF_UP)))
    table.append(0)
    path = Path(__file__).resolve().parent.parent / "exact" / "gelu_table.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack(f"<{len(table)}i", *table))


if __name__ == "__main__":
    main()
