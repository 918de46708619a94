import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Returns numbers uniform in [0, 1); the same seed gives the same numbers. */
export type Random = () => number;

export function seeded(seed: number): Random {
  const generator = xoroshiro128plus(seed);
  return () => uniformFloat64(generator);
}

/** Returns an exponentially distributed number of mean 1. */
export function exponential(random: Random): number {
  return -Math.log(1 - random());
}
