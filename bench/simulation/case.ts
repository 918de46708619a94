/** Runs one simulation, in a thread of its own. */
import type { EvictionName } from '../../dist/contracts/eviction.js';
import type { RouterName } from '../../dist/contracts/request-router.js';
import { simulateCentralQueue } from './central-queue.js';
import { simulateEngine } from './engine-simulation.js';
import type { Outcome } from './outcome.js';
import { simulateRayServe } from './ray-serve.js';
import type { Setting } from './setting.js';

/** A router of the engine with a cache policy, or a yardstick. */
export type Contender =
  | { readonly kind: 'engine'; readonly router: RouterName; readonly eviction: EvictionName }
  | { readonly kind: 'central-queue' }
  | { readonly kind: 'ray-serve' };

export interface Case {
  readonly setting: Setting;
  readonly contender: Contender;
  readonly seed: number;
}

export default function simulate({ setting, contender, seed }: Case): Outcome {
  if (contender.kind === 'central-queue') return simulateCentralQueue(setting, seed);
  if (contender.kind === 'ray-serve') return simulateRayServe(setting, seed);
  return simulateEngine(setting, contender.router, contender.eviction, seed);
}
