"""find-primes: all primes up to a bound."""
