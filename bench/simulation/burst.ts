import type { RequestRouter, RouterName } from '../../dist/contracts/request-router.js';
import { SimulatedDeployment } from './machine/simulated-deployment.js';
import { SimulatedMachine } from './machine/simulated-machine.js';
import type { SimulatedModel } from './machine/simulated-model.js';
import { VirtualClock } from './machine/virtual-clock.js';
import { seeded } from './random.js';

const REPLICAS = 4;
const SESSIONS = 2;
const BURST = 60;
const SESSION_BYTES = 1_000_000;
/** A load takes longer than the runs of the burst together. */
const LOAD_MS = 200;
const RUN_MS = 3;

export interface BurstOutcome {
  /** Replicas that loaded the new model. */
  readonly copies: number;
  /** Sessions of other models that left. */
  readonly evictions: number;
  readonly answered: number;
}

/**
 * Simulates a burst of 60 requests for a new model on 4 replicas that are full: each has the sessions of 2 of 8 other
 * models. Each of those was asked for before, in turns.
 */
export function simulateBurst(router: RouterName | RequestRouter): BurstOutcome {
  const clock = new VirtualClock();
  const machine = new SimulatedMachine(clock, REPLICAS);
  const came: string[] = [];
  const deployment = new SimulatedDeployment(
    machine,
    seeded(1),
    {
      ...{ router, eviction: 'lru', maxQueuedRequests: 4_096, maxBytes: SESSIONS * SESSION_BYTES, threads: 1, wide: 1 },
      express: false,
    },
    {
      failed: (error) => {
        throw error;
      },
      loaded: () => undefined,
      came: (_, place) => void came.push(place),
    },
  );
  const replicas = Array.from({ length: REPLICAS }, (_, index) => deployment.addReplica(`replica-${index}`));
  const idle = () => {
    while (!deployment.isIdle) clock.step();
  };
  const others = Array.from({ length: REPLICAS * SESSIONS }, (_, index) => model(`other-${index}`));
  let answered = 0;
  const count = () => {
    answered += 1;
  };
  for (const other of others) {
    deployment.submit(other, RUN_MS, count);
    idle();
  }
  const before = came.length;
  const hadBefore = replicas.flatMap(({ models }) => [...models.keys()]).length;
  for (let request = 0; request < BURST; request += 1) deployment.submit(model('new'), RUN_MS, count);
  idle();
  const left = replicas.flatMap(({ models }) => [...models.keys()]).filter((key) => key !== 'new').length;
  return { copies: came.length - before, evictions: hadBefore - left, answered: answered - others.length };
}

function model(id: string): SimulatedModel {
  return { id, key: id, path: '', bytes: SESSION_BYTES, loadMs: LOAD_MS };
}
