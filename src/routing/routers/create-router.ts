import type { RequestRouter, RouterName } from '../../contracts/request-router.js';
import { ExpectedCompletionRouter } from './by-model/expected-completion-router.js';
import { LeastLoadedRouter } from './by-model/least-loaded-router.js';
import type { ModelRouter } from './by-model/model-router.js';
import { PowerOfTwoChoicesRouter } from './by-model/power-of-two-choices-router.js';
import { ConsistentHashRouter } from './by-request/consistent-hash-router.js';
import { RoundRobinRouter } from './by-request/round-robin-router.js';
import { ThroughputAwareRouter } from './by-request/throughput-aware-router.js';
import { UniformRouter } from './by-request/uniform-router.js';

type Random = () => number;

const MODEL_ROUTERS = {
  'power-of-two-choices': (random: Random) => new PowerOfTwoChoicesRouter(random),
  'least-loaded': () => new LeastLoadedRouter(),
  'expected-completion': () => new ExpectedCompletionRouter(),
} as const satisfies Record<string, (random: Random) => ModelRouter>;

const REQUEST_ROUTERS = {
  'round-robin': () => new RoundRobinRouter(),
  uniform: (random: Random) => new UniformRouter(random),
  'throughput-aware': () => new ThroughputAwareRouter(),
  'consistent-hash': () => new ConsistentHashRouter(),
} as const satisfies Record<string, (random: Random) => RequestRouter>;

/** A router that goes by the model alone, or a router that is asked for each request. */
export type CreatedRouter =
  | { readonly scope: 'model'; readonly router: ModelRouter; readonly isOwn: false }
  /** `isOwn`: it is a user's. */
  | { readonly scope: 'request'; readonly router: RequestRouter; readonly isOwn: boolean };

/** @param random uniform in [0, 1). */
export function createRouter(router: RouterName | RequestRouter, random: Random): CreatedRouter {
  if (typeof router !== 'string') return { scope: 'request', router, isOwn: true };
  if (isModelRouter(router)) return { scope: 'model', router: MODEL_ROUTERS[router](random), isOwn: false };
  return { scope: 'request', router: REQUEST_ROUTERS[router](random), isOwn: false };
}

function isModelRouter(name: RouterName): name is keyof typeof MODEL_ROUTERS {
  return Object.hasOwn(MODEL_ROUTERS, name);
}
