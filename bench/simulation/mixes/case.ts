/** Runs one simulation of a mix, in a thread of its own. */
import type { Mix } from './mix.js';
import type { MixOutcome } from './mix-outcome.js';
import { type Server, simulateMix } from './mix-simulation.js';

export interface MixCase {
  readonly mix: Mix;
  readonly server: Server;
  readonly seed: number;
}

export default function simulate({ mix, server, seed }: MixCase): MixOutcome {
  return simulateMix(mix, server, seed);
}
